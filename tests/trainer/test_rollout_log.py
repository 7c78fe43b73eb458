"""Rollouts are complete lines, and a prompt is written once however many rollouts refer to it."""

from pathlib import Path

import numpy as np
import pytest
from verl_longrl.trainer.rollout_log import RolloutLog, read_jsonl


def test_each_prompt_once_also_after_reopening(tmp_path: Path):
    log = RolloutLog(tmp_path)
    first = log.add_prompt("a long document", {"index": 7})
    assert log.add_prompt("a long document", {"index": 7}) == first
    assert RolloutLog(tmp_path).add_prompt("a long document", {"index": 7}) == first
    other = log.add_prompt("another", {"index": 8})
    rows = read_jsonl(log.prompts)
    assert [row["prompt"] for row in rows] == [first, other]
    assert rows[0]["text"] == "a long document"


def test_a_kill_in_the_middle_of_a_line_costs_that_line_alone(tmp_path: Path):
    log = RolloutLog(tmp_path)
    first = log.add_prompt("a long document", {})
    with log.prompts.open("a") as handle:
        handle.write('{"prompt": "cut')
    second = RolloutLog(tmp_path).add_prompt("another", {})
    assert [row["prompt"] for row in read_jsonl(log.prompts)] == [first, second]
    assert RolloutLog(tmp_path).add_prompt("another", {}) == second


@pytest.mark.parametrize("separator", ["\u2028", "\x85", "\x0c"])
def test_characters_that_some_call_line_ends(tmp_path: Path, separator: str):
    RolloutLog(tmp_path).add_prompt(f"one{separator}two", {})
    RolloutLog(tmp_path)
    assert read_jsonl(tmp_path / "prompts.jsonl")[0]["text"] == f"one{separator}two"


def test_step_is_replaced_when_run_again(tmp_path: Path):
    log = RolloutLog(tmp_path)
    log.write_step(3, [{"score": np.float32(0.5)}, {"score": 1.0}])
    path = log.write_step(3, [{"score": 0.25}])
    assert read_jsonl(path) == [{"step": 3, "score": 0.25}]
    assert [p.name for p in tmp_path.iterdir()] == ["3.jsonl"]


def test_line_cut_off_by_a_kill_is_left_out_but_damage_is_not(tmp_path: Path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n{"a"')
    assert read_jsonl(path) == [{"a": 1}, {"a": 2}]
    path.write_text('{"a"\n{"a": 2}\n')
    with pytest.raises(ValueError, match="delimiter"):
        read_jsonl(path)


def test_what_json_cannot_hold_is_named(tmp_path: Path):
    with pytest.raises(TypeError, match="set is not JSON-serialisable"):
        RolloutLog(tmp_path).write_step(1, [{"x": {1}}])
