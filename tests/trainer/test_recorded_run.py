"""Runs are read at the cost of what is asked for, while they are written, and whatever is damaged."""

import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from verl_longrl.folder_lock import hold_folders
from verl_longrl.trainer.recorded_run import RecordedRun, iterate_rollouts, list_runs
from verl_longrl.trainer.rollout_log import RolloutLog, part_path, prompt_key


def rollout(prompt: str, number: int, **facts: object) -> dict[str, object]:
    parts = {"score": 0.5, "task": "longrlvr", "status": "ok", "own_parts": {}, "response": f"{prompt} {number}"}
    return {"uid": f"uid {prompt}", "rollout": number, "prompt": prompt_key(prompt), **parts, **facts}


@pytest.fixture
def log(tmp_path: Path) -> RolloutLog:
    """A log of steps 1 to 3 with two prompts of two rollouts each, and a validation after step 2."""
    log = RolloutLog(tmp_path / "rollouts")
    log.add_prompts([(text, {"question": f"{text}?", "file": "train.parquet", "row": 7}) for text in ("one", "two")])
    for step in (1, 2, 3):
        if step == 2:
            log.write_step("val", 2, [rollout("two", 0, score=1.0)])
        log.write_step("train", step, [rollout(prompt, n, score=step / 4) for prompt in ("one", "two") for n in (0, 1)])
    return log


@pytest.fixture
def run(log, tmp_path: Path) -> RecordedRun:
    run = RecordedRun(tmp_path)
    run.index.update()
    run.prompts.update()
    return run


def test_rollouts_are_found_by_step_and_read_at_their_place(run):
    assert (list(run.index.steps("train")), list(run.index.steps("val"))) == ([1, 2, 3], [2])
    rows = run.index.find("train", 2)
    assert list(run.index["score"][rows]) == [0.5] * 4
    assert list(run.index["group"][rows]) == [0, 0, 1, 1]
    assert np.isnan(run.index["advantage"][rows]).all()
    assert [run.rollout(row)["response"] for row in rows] == ["one 0", "one 1", "two 0", "two 1"]
    (held_out,) = run.index.find("val")
    assert run.rollout(held_out)["score"] == 1.0
    assert len(run.index.find("filtered")) == 0


def test_prompts_are_read_by_their_key(run):
    key = run.index["prompt"][run.index.find("val", 2)[0]]
    assert (run.prompts.text(key), run.prompts[key]["question"], run.prompts[key]["row"]) == ("two", "two?", 7)
    assert run.prompts.text("0" * 16) is None
    assert len(run.prompts) == 2


def test_one_rollout_and_one_prompt_of_a_large_run_are_read_alone(tmp_path: Path):
    log = RolloutLog(tmp_path / "rollouts", part_bytes=8 << 20)
    log.add_prompts([(f"{number}" + "x" * (1 << 18), {}) for number in range(80)])
    log.write_step("train", 1, [rollout("0", n, response="y" * (1 << 18)) for n in range(80)])
    tracemalloc.start()
    try:
        run = RecordedRun(tmp_path)
        assert run.index.update()
        assert run.prompts.update()
        assert run.rollout(79)["rollout"] == 79
        assert run.prompts.text(prompt_key("13" + "x" * (1 << 18))).startswith("13xx")
        # Of 20 MiB of prompts and 20 MiB of rollouts: a buffer of 8 MiB, and 12 times a text of 256 KiB for its parser.
        assert tracemalloc.get_traced_memory()[1] < 12 << 20
    finally:
        tracemalloc.stop()


def test_a_run_that_is_being_written(log, run):
    assert not run.index.update()
    line = log.index.read_bytes().splitlines(keepends=True)[-1]
    with log.index.open("ab") as handle:
        handle.write(line[:30])
        handle.flush()
        assert not run.index.update()
        handle.write(line[30:])
    assert run.index.update()
    assert len(run.index) == 14
    log.add_prompts([("three", {})])
    assert run.prompts.update()
    assert run.prompts.text(prompt_key("three")) == "three"


@pytest.mark.parametrize("repeated", [False, True])
def test_a_resume_is_noticed(log, run, repeated: bool):
    log.drop_after(2)
    if repeated:
        log.write_step("train", 3, [rollout("two", n, score=0.0) for n in range(9)])
    assert run.index.update()
    assert list(run.index["score"][run.index.find("train", 3)]) == [0.0] * (9 if repeated else 0)
    assert len(run.index.find("train", 2)) == 4
    log.drop_after(0)
    assert run.index.update()
    assert len(run.index) == 0


DAMAGE: dict[str, bytes] = {
    "NUL bytes": b"\0" * 50 + b"\n",
    "two lines in one": b'{"split": "train", "st{"split": "train", "step": 1}\n',
    "not UTF-8": b'{"split": "\xff"}\n',
    "no place": b'{"split": "train", "step": 1}\n',
    "another folder": b'{"split": "../..", "step": 1, "at": 0, "bytes": 9}\n',
    "a negative place": b'{"split": "train", "step": 1, "at": -1, "bytes": 9}\n',
    "a list": b"[1]\n",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_lines_of_an_index_are_skipped(log, run, damage: bytes):
    lines = log.index.read_bytes().splitlines(keepends=True)
    log.index.write_bytes(b"".join([*lines[:3], damage, *lines[3:]]))
    again = RecordedRun(run.folder)
    again.index.update()
    assert [again.rollout(row) for row in range(len(again.index))] == [run.rollout(row) for row in range(13)]


def test_values_of_another_kind_are_missing(log, run):
    line = (
        b'{"split": "val", "step": 9, "at": 0, "bytes": 1, "score": "high", "group": null, "task": 3, "cited": 1e400}\n'
    )
    with log.index.open("ab") as handle:
        handle.write(line)
    run.index.update()
    (row,) = run.index.find("val", 9)
    assert np.isnan(run.index["score"][row])
    assert (run.index["group"][row], run.index["task"][row]) == (-1, None)
    assert run.index["score"][0] == 0.25
    assert run.rollout(row) is None


def cut(path: Path) -> None:
    os.truncate(path, 10)


def overwrite(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"two"', b'"six"').replace(b'"two 0"', b'"tw\0 0"'))


@pytest.mark.parametrize("damage", [Path.unlink, cut, overwrite])
def test_what_is_gone_or_damaged_is_none(log, run, damage: Callable[[Path], object]):
    damage(part_path(log.folder, 0))
    assert run.prompts.text(prompt_key("two")) is None
    damage(log.folder / "train" / "2.jsonl")
    assert run.rollout(run.index.find("train", 2)[2]) is None


def test_a_folder_without_anything(tmp_path: Path):
    run = RecordedRun(tmp_path / "none")
    assert (run.index.update(), run.prompts.update(), run.info()) == (False, False, {})


def test_the_layout_of_earlier_versions(tmp_path: Path):
    folder = tmp_path / "rollouts"
    folder.mkdir()
    row = {"prompt": prompt_key("a text"), "index": 4, "text": "a text"}
    (folder / "prompts.jsonl").write_text(json.dumps({"prompt": "0" * 16}) + "\n" + json.dumps(row) + "\n")
    for step in (2, 10):
        (folder / f"{step}.jsonl").write_text(json.dumps({"step": step, **rollout("a text", 0)}) + "\n")
    assert [row["step"] for row in iterate_rollouts(folder)] == [2, 10]
    run = RecordedRun(tmp_path)
    run.prompts.update()
    assert run.prompts[row["prompt"]] == {"prompt": row["prompt"], "index": 4}
    assert run.prompts.text(row["prompt"]) == "a text"
    # A new version continues it.
    log = RolloutLog(folder)
    assert log.add_prompts([("a text", {}), ("another", {})]) == [row["prompt"], prompt_key("another")]
    log.write_step("train", 11, [rollout("another", 0)])
    run.prompts.update()
    assert run.prompts.text(prompt_key("another")) == "another"
    log.drop_after(2)
    assert [row["step"] for row in iterate_rollouts(folder)] == [2]


def test_runs_are_found_below_a_folder(tmp_path: Path):
    for name in ("a", "stages/warmup", "stages/stage1", "a/export", "a/checkpoints/b", "x/y/z/too_deep", ".hidden"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "metrics.jsonl").write_text("")
    (tmp_path / "no_run").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path)
    assert list_runs(tmp_path) == [tmp_path / name for name in ("a", "stages/stage1", "stages/warmup")]
    assert list_runs(tmp_path / "a") == [tmp_path / "a"]
    assert list_runs(tmp_path / "absent") == []


def test_a_killed_run_is_lost(tmp_path: Path):
    (tmp_path / "run.json").write_text(json.dumps({"status": "running", "why": ""}))
    with hold_folders([tmp_path]):
        assert RecordedRun(tmp_path).info()["status"] == "running"
    assert RecordedRun(tmp_path).info()["status"] == "lost"
    (tmp_path / "run.json").write_text('{"stat')
    assert RecordedRun(tmp_path).info() == {}
