"""Demonstrations from rollouts: scored again, above a threshold, distinct, a few of each prompt; from files alone."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import yaml
from verl_longrl.data.demonstrations import read_demonstrations
from verl_longrl.data.schema import Sample, write_samples
from verl_longrl.trainer.rollout_log import RolloutLog

from data_gen.demonstrations import __main__ as command

GOOD, LONGER, BAD = "It is \\boxed{Paris}", "I think that it is \\boxed{Paris}", "It is \\boxed{Rome}"


def sample(index: int, gold: str = "Paris", question: str = "Where?") -> Sample:
    return Sample(
        data_source="loongrl_qa",
        prompt=[{"role": "user", "content": question}],
        ground_truth=gold,
        index=index,
        question=question,
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with two prompts, and rollouts of two steps."""
    write_samples(tmp_path / "train.parquet", [sample(0), sample(1, "Oslo", "Where else?"), sample(2, question="No?")])
    folder = tmp_path / "run"
    log = RolloutLog(folder / "rollouts")
    keys = log.add_prompts(
        [
            (f"user: {each.question}", {"index": each.index, "ground_truth": each.ground_truth})
            for each in (sample(0), sample(1, "Oslo", "Where else?"))
        ]
    )
    log.write_step("train", 1, [{"prompt": keys[0], "response": text} for text in (LONGER, BAD, GOOD, GOOD)])
    log.write_step(
        "train", 2, [{"prompt": keys[0], "response": "\\boxed{Paris}."}, {"prompt": keys[1], "response": BAD}]
    )
    settings = {"data": {"train_files": [str(tmp_path / "train.parquet")]}, "longrl": {"reward": {"method": "loongrl"}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


def choose(source: Path, *options: str) -> list[tuple[int, str]]:
    out = source.parent / "demos.parquet"
    command.app(["from-rollouts", str(source), "--out", str(out), *options], standalone_mode=False)
    return [(each.sample.index, each.response) for each in read_demonstrations(out)]


def test_the_shortest_good_response_of_each_prompt(run: Path, capsys: pytest.CaptureFixture[str]):
    assert choose(run, "--threshold", "1") == [(0, "\\boxed{Paris}.")]
    printed = capsys.readouterr().out
    assert "1 demonstrations of 1 prompts, from 6 responses" in printed
    for line in ("2 dropped: reward below 1", "1 dropped: repeats another response to the row", "2 dropped: more than"):
        assert line in printed


def test_the_first_or_some_at_random(run: Path):
    assert choose(run, "--threshold", "1", "--order", "first") == [(0, LONGER)]
    assert choose(run, "--threshold", "1", "--order", "first", "--per-prompt", "2") == [(0, LONGER), (0, GOOD)]
    drawn = Counter(
        choose(run, "--threshold", "1", "--order", "random", "--seed", str(seed))[0][1] for seed in range(12)
    )
    assert len(drawn) > 1
    again = choose(run, "--threshold", "1", "--order", "random", "--seed", "3")
    assert again == choose(run, "--threshold", "1", "--order", "random", "--seed", "3")


def test_the_rows_may_have_moved(run: Path):
    moved = run.parent / "moved.parquet"
    (run.parent / "train.parquet").rename(moved)
    assert choose(run, "--threshold", "1", "--rows", str(moved)) == [(0, "\\boxed{Paris}.")]


def test_what_mining_asked(run: Path):
    mining = run / "mining"
    mining.mkdir()
    file = run.parent / "train.parquet"
    (mining / "asked.json").write_text(json.dumps({"files": [f"{file} ({file.stat().st_size} bytes)"]}))
    lines = [{"file": 0, "row": 2, "responses": [BAD, GOOD]}, {"file": 0, "row": 0, "responses": [LONGER]}]
    (mining / "rollouts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert choose(mining, "--threshold", "1") == [(0, LONGER), (2, GOOD)]


def test_an_evaluation_of_own_rows(run: Path):
    folder = run.parent / "evaluation" / "own_parquet"
    folder.mkdir(parents=True)
    answers = [
        {"key": "a", "row": "train/2", "state": "done", "text": GOOD},
        {"key": "b", "row": "train/1", "state": "failed"},
    ]
    (folder / "answers.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    rows = ("--rows", str(run.parent / "train.parquet"))
    assert choose(run.parent / "evaluation", "--threshold", "1", *rows) == [(2, GOOD)]


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("run", ("--threshold", "2"), "5 reward below 2). Fix: lower it"),
        ("run", ("--threshold", "1", "--rows", "other.parquet"), "no prompt belongs to a row of"),
        (".", ("--threshold", "1"), "no rollouts/, rollouts.jsonl or answers.jsonl in it. Fix: name the folder"),
    ],
)
def test_what_gives_nothing_is_named(
    run: Path, monkeypatch, capsys: pytest.CaptureFixture[str], source: str, options: tuple[str, ...], message: str
):
    monkeypatch.chdir(run.parent)
    write_samples("other.parquet", [sample(7, "Lima")])
    folder = run.parent / "empty" if source == "." else run
    folder.mkdir(exist_ok=True)
    out = str(run.parent / "demos.parquet")
    assert command.app(["from-rollouts", str(folder), "--out", out, *options], standalone_mode=False) == 1
    assert message in capsys.readouterr().err
    assert not (run.parent / "demos.parquet").exists()
