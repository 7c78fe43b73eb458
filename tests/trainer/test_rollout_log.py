"""Rollouts are complete lines, and a prompt is written once however many rollouts refer to it."""

import errno
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from verl_longrl.data.jsonl import drop_partial_line, iterate_jsonl, read_jsonl
from verl_longrl.trainer import rollout_log
from verl_longrl.trainer.rollout_log import RolloutLog


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


def test_reopening_finds_every_prompt_whatever_its_length(tmp_path: Path):
    texts = [f"{number} " + "word " * (number * 997) for number in range(40)]  # up to three blocks
    log = RolloutLog(tmp_path)
    keys = [log.add_prompt(text, {}) for text in texts]
    assert len(set(keys)) == len(texts)
    again = RolloutLog(tmp_path)
    assert [again.add_prompt(text, {}) for text in texts] == keys
    assert [row["prompt"] for row in read_jsonl(log.prompts)] == keys


@pytest.mark.parametrize(
    "damage",
    [
        b'{"text": "no key"}\n',
        b'{"prompt": "%s", "te\n',
        b"\0" * 5000 + b"\n",
        b'{"prompt": "%s", "index": ' + b"\0" * 90 + b'"}\n',
        b'{"prompt": "%s", "tex{"prompt": "0123456789abcdef", "text": "another"}\n',
        b'{"prompt": "%s", "text": "cut in a character: \xe2\x82"}\n',
    ],
)
def test_a_prompt_whose_line_is_damaged_is_written_again(tmp_path: Path, capsys, damage: bytes):
    log = RolloutLog(tmp_path)
    first, lost = log.add_prompt("a document", {}), RolloutLog(tmp_path / "x").add_prompt("lost", {})
    with log.prompts.open("ab") as handle:
        handle.write(damage.replace(b"%s", lost.encode()))
    again = RolloutLog(tmp_path)
    assert f"{log.prompts}: line 2 damaged and skipped" in capsys.readouterr().err
    assert [again.add_prompt("a document", {}), again.add_prompt("lost", {})] == [first, lost]
    assert [row["text"] for row in read_jsonl(log.prompts, ("prompt",))] == ["a document", "lost"]


@pytest.mark.parametrize("rest", [b"", b"x", b"x" * (1 << 16), b"x" * 200_000])
def test_what_a_kill_left_is_cut_off_however_long(tmp_path: Path, rest: bytes):
    path = tmp_path / "x.jsonl"
    for whole in (b"", b"{}\n", b"{}\n" * 40_000):
        path.write_bytes(whole + rest)
        drop_partial_line(path)
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "read",
    [RolloutLog, lambda folder: sum(row["index"] for row in iterate_jsonl(folder / "prompts.jsonl"))],
    ids=["reopening", "iterating"],
)
def test_memory_does_not_grow_with_the_file(tmp_path: Path, read: Callable[[Path], object]):
    """50 MB of prompts, one with a character for which Python makes a string four bytes a character."""
    with (tmp_path / "prompts.jsonl").open("w") as handle:
        for index in range(200):
            text = f"{index:08}" * 31_250 + "\U0001f600" * (index == 7)
            row = {"prompt": f"{index:016x}", "index": index, "text": text}
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")
        handle.write('{"prompt": "' + "cut " * 250_000)
    tracemalloc.start()
    try:
        read(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 5 * 2**20  # the longest line, in bytes and as a string
    finally:
        tracemalloc.stop()


def test_step_is_replaced_when_run_again(tmp_path: Path):
    log = RolloutLog(tmp_path)
    log.write_step(3, [{"score": np.float32(0.5)}, {"score": 1.0}])
    path = log.write_step(3, [{"score": 0.25}])
    assert read_jsonl(path) == [{"step": 3, "score": 0.25}]
    assert [p.name for p in tmp_path.iterdir()] == ["3.jsonl"]


def test_what_json_cannot_hold_is_named(tmp_path: Path):
    with pytest.raises(TypeError, match="set is not JSON-serialisable"):
        RolloutLog(tmp_path).write_step(1, [{"x": {1}}])


def test_a_full_disk_leaves_the_files_as_they_were(tmp_path: Path, monkeypatch):
    log = RolloutLog(tmp_path)
    log.add_prompt("a document", {})
    log.write_step(1, [{"score": 1.0}])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(rollout_log, "append_lines", full)
    monkeypatch.setattr(rollout_log.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        log.add_prompt("another", {})
    with pytest.raises(OSError, match="No space"):
        log.write_step(1, [{"score": 0.0}])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    monkeypatch.undo()
    log.add_prompt("another", {})
    assert [row["text"] for row in read_jsonl(log.prompts)] == ["a document", "another"]
