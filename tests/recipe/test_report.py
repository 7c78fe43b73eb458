"""The table, the summary and the plot are made from metrics.jsonl alone."""

import json
from pathlib import Path

import pytest

from recipe.longrl import report


def rows(path: Path, *entries: dict) -> None:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def test_before_and_after(tmp_path: Path, capsys):
    rows(
        tmp_path / "metrics.jsonl",
        {"split": "val", "step": 0, "val/context": 0.25, "val/longrlvr/context": 0.25, "val-core/x": 9.0},
        {"split": "train", "step": 1, "reward_before_filter/context": 0.5},
        {"split": "val", "step": 2, "val/context": 0.75, "val/longrlvr/context": 0.75},
    )
    summary = report.write_report(tmp_path, command="python -m x", seconds=1.25)
    assert summary == json.loads((tmp_path / "summary.json").read_text())
    assert summary["before"] == {"context": 0.25, "longrlvr/context": 0.25}
    assert summary["after"]["context"] == 0.75
    assert (summary["steps"], summary["seconds"], summary["command"]) == (2, 1.2, "python -m x")
    assert "+0.500" in capsys.readouterr().out
    assert (tmp_path / "plots" / "training.png").stat().st_size > 1000
    again = report.write_report(tmp_path)
    assert (again["seconds"], again["command"]) == (1.2, "python -m x")


def test_a_run_without_validation_compares_training_steps(tmp_path: Path, capsys):
    former, present = "sampled/recall", "reward_before_filter/recall"  # a run that began with an earlier version
    rows(
        tmp_path / "metrics.jsonl",
        {"split": "train", "step": 1, former: 0.5},
        {"split": "train", "step": 2, present: 0.75},
    )
    summary = report.write_report(tmp_path)
    assert (summary["before"], summary["after"], summary["steps"]) == ({"recall": 0.5}, {"recall": 0.75}, 2)
    assert "training rollouts, step 1 -> step 2" in capsys.readouterr().out


def test_several_tasks_are_shown_one_by_one(tmp_path: Path, capsys):
    def row(step: int, one: float, other: float) -> dict:
        tasks = {"val/golongrl_qa/score": one, "val/golongrl_exhaustive/score": other}
        return {
            "split": "val",
            "step": step,
            "val/score": (one + other) / 2,
            "val/context": 0,
            "val/recall": 0.5,
        } | tasks

    rows(tmp_path / "metrics.jsonl", row(0, 0.5, 0.25), row(10, 1.0, 0.375))
    report.write_report(tmp_path)
    shown = {line.split("│")[1].strip(): line for line in capsys.readouterr().out.splitlines() if "│" in line}
    assert list(shown) == ["reward", "reward, golongrl_exhaustive", "reward, golongrl_qa"]
    assert "+0.125" in shown["reward, golongrl_exhaustive"]
    assert "+0.500" in shown["reward, golongrl_qa"]


def test_a_run_without_steps_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="contains no completed step"):
        report.write_report(tmp_path)


def test_what_is_no_number_is_left_out(tmp_path: Path, capsys):
    rows = [
        {"split": "val", "step": 0, "val/score": 0.5, "val/answer": None},
        {"split": "train", "step": 1, "reward_before_filter/score": None, "reward_before_filter/answer": 0.25},
        {"split": "val", "step": 2, "val/score": 0.75, "val/answer": 0.5},
    ]
    lines = [json.dumps(row) for row in rows]
    (tmp_path / "metrics.jsonl").write_text("\n".join([lines[0], "\0\0", '{"split": "tr', *lines[1:]]) + "\n")
    (tmp_path / "summary.json").write_text('{"torn')
    summary = report.write_report(tmp_path)
    assert (summary["before"], summary["after"]) == ({"score": 0.5}, {"score": 0.75, "answer": 0.5})
    assert "2 lines (the first: 2) damaged" in capsys.readouterr().err
