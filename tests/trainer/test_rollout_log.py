"""Rollouts are complete lines in files that an index points into; a prompt is written once however many refer to it."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from verl_longrl.data.jsonl import drop_partial_line, read_jsonl
from verl_longrl.trainer import rollout_log
from verl_longrl.trainer.rollout_key import RolloutKey
from verl_longrl.trainer.rollout_log import LoggedPrompt, LoggedRollouts, RolloutLog, part_path, step_files


def add(log: RolloutLog, *texts: str) -> list[str]:
    return log.add_prompts([(text, {}) for text in texts])


def texts(log: RolloutLog) -> list[str]:
    """The stored texts, in the order of their rows, each read at its place."""
    stored = []
    for row in read_jsonl(log.prompts, ("prompt", "part")):
        with part_path(log.folder, row["part"]).open("rb") as handle:
            handle.seek(row["at"])
            stored.append(rollout_log.json.loads(handle.read(row["bytes"]))["text"])
    return stored


def decode(tokens: list[int], **_: object) -> str:
    return " ".join(map(str, tokens))


def rollouts(*uids: str, score: float = 1.0) -> LoggedRollouts:
    """Two rollouts of a prompt for each uid, the second of which was cut at two tokens."""
    info = {"question": "Where?", "ref_chunks": [3], "num_chunks": 9, "document": "d", "data_file": "f", "data_row": 5}
    prompts = {uid: LoggedPrompt([ord(uid), 8, 9], {"ground_truth": "x"}, info) for uid in uids}
    keys = [RolloutKey(uid, session, 0) for session in (0, 1) for uid in uids]
    flat = {
        "score": score,
        "task": "qa",
        "status": "ok",
        "own_parts": '{"hops": 2.0}',
        "cited_ids": "[3]",
        "judge": "null",
    }
    responses, measured = [[1] * (1 + key.session) for key in keys], [{"advantage": -0.5, "seconds": 2.0}] * len(keys)
    return LoggedRollouts(prompts, keys, responses, [flat] * len(keys), measured)


def test_a_rollout_has_what_is_known_of_it(tmp_path: Path):
    log = RolloutLog(tmp_path, max_response_tokens=2)
    log.add("train", rollouts("b", "a"), decode)
    log.write("train", 4)
    rows = read_jsonl(tmp_path / "train" / "4.jsonl")
    assert [(row["uid"], row["rollout"]) for row in rows] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert {name: rows[1][name] for name in ("prompt_tokens", "response_tokens", "finish_reason", "advantage")} == {
        **{"prompt_tokens": 3, "response_tokens": 2, "finish_reason": "length", "advantage": -0.5}
    }
    assert (rows[0]["cited_ids"], rows[0]["own_parts"], rows[0]["judge"]) == ([3], {"hops": 2.0}, None)
    assert (rows[0]["response"], rows[0]["finish_reason"], rows[0]["step"]) == ("1", "stop", 4)
    prompts = {row["prompt"]: row for row in read_jsonl(log.prompts)}
    about = prompts[rows[0]["prompt"]]
    assert (about["question"], about["ground_truth"], about["ref_chunks"], about["num_chunks"]) == (
        "Where?",
        "x",
        [3],
        9,
    )
    assert (about["file"], about["row"], about["document"], about["prompt_tokens"]) == ("f", 5, "d", 3)
    assert texts(log) == ["98 8 9", "97 8 9"]


def test_the_index_has_a_place_for_each_rollout(tmp_path: Path):
    log = RolloutLog(tmp_path)
    for split, step in (("val", 0), ("filtered", 1), ("train", 1)):
        log.add(split, rollouts("a", "b", score=1 / 3), decode)
        log.write(split, step)
    index = read_jsonl(log.index)
    assert [(row["split"], row["step"], row["group"]) for row in index[::2]] == [
        *(("val", 0, 0), ("val", 0, 1), ("filtered", 1, 0), ("filtered", 1, 1), ("train", 1, 0), ("train", 1, 1))
    ]
    for row in index:
        content = (tmp_path / row["split"] / f"{row['step']}.jsonl").read_bytes()
        rollout = rollout_log.json.loads(content[row["at"] : row["at"] + row["bytes"]])
        assert (rollout["prompt"], rollout["rollout"]) == (row["prompt"], row["rollout"])
        assert row["score"] == 0.3333
        assert "response" not in row


def test_what_was_discarded_or_failed_is_not_written(tmp_path: Path, monkeypatch):
    log = RolloutLog(tmp_path)
    log.add("val", rollouts("a"), decode)
    log.discard("val")
    log.write("val", 1)
    log.add("val", rollouts("a"), decode)
    with monkeypatch.context() as patch:
        patch.setattr(rollout_log, "append_lines", full)
        with pytest.raises(OSError, match="No space"):
            log.add("val", rollouts("b"), decode)
    log.write("val", 1)
    assert not step_files(tmp_path, "val"), "all rollouts of a step or none"
    log.add("val", rollouts("b"), decode)
    log.write("val", 2)
    assert [*step_files(tmp_path, "val")] == [2]


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_each_prompt_once_also_after_reopening(tmp_path: Path):
    log = RolloutLog(tmp_path)
    first, twice, other = add(log, "a long document", "a long document", "another")
    assert first == twice != other
    assert add(log, "a long document") == [first]
    assert add(RolloutLog(tmp_path), "another", "a long document") == [other, first]
    assert [row["prompt"] for row in read_jsonl(log.prompts)] == [first, other]
    assert texts(log) == ["a long document", "another"]


@pytest.mark.parametrize("indexed", [True, False])
def test_a_kill_in_the_middle_of_a_line_costs_that_line_alone(tmp_path: Path, indexed: bool):
    log = RolloutLog(tmp_path)
    (first,) = add(log, "a long document")
    with (log.prompts if indexed else part_path(tmp_path, 0)).open("a") as handle:
        handle.write('{"prompt": "cut')
    (second,) = add(RolloutLog(tmp_path), "another")
    assert [row["prompt"] for row in read_jsonl(log.prompts)] == [first, second]
    assert texts(log) == ["a long document", "another"]
    assert len(part_path(tmp_path, 0).read_bytes().splitlines()) == 2


def test_texts_stay_where_their_rows_are_lost(tmp_path: Path):
    log = RolloutLog(tmp_path)
    (key,) = add(log, "a document")
    log.prompts.unlink()
    again = RolloutLog(tmp_path)
    assert "a document" in part_path(tmp_path, 0).read_text()
    assert add(again, "another", "a document")[1] == key
    assert texts(again) == ["another", "a document"]


@pytest.mark.parametrize("separator", ["\u2028", "\x85", "\x0c", "\r", "\ud800"])
def test_characters_that_some_call_line_ends(tmp_path: Path, separator: str):
    log = RolloutLog(tmp_path)
    (key,) = add(log, f"one{separator}two")
    assert add(RolloutLog(tmp_path), f"one{separator}two") == [key]
    assert texts(log) == [f"one{separator}two".replace("\ud800", "?")]


def test_texts_are_in_parts_of_bounded_size(tmp_path: Path):
    log = RolloutLog(tmp_path, part_bytes=1000)
    for size in (400, 400, 400, 2000, 10):
        keys = add(log, str(size) * (size // 3) + str(len(texts(log))))
    sizes = [path.stat().st_size for _, path in rollout_log.enumerate_parts(tmp_path)]
    assert [size > 1000 for size in sizes] == [False, False, True, False], "a longer text has a part of its own"
    assert len(texts(log)) == 5
    again = RolloutLog(tmp_path, part_bytes=1000)
    add(again, "more")
    assert [part for part, _ in rollout_log.enumerate_parts(tmp_path)] == [0, 1, 2, 3], "the last part is continued"
    assert texts(again)[-1] == "more"
    assert keys[0] != add(again, "more")[0]


def test_reopening_reads_no_texts(tmp_path: Path, monkeypatch):
    add(RolloutLog(tmp_path), "a" * 5000, "b" * 5000)
    part = part_path(tmp_path, 0)
    opened, open_path = [], Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, *args, **kwargs: opened.append(self) or open_path(self, *args, **kwargs)
    )
    log = RolloutLog(tmp_path)
    assert part not in opened
    assert tmp_path / "prompts.jsonl" in opened
    add(log, "a" * 5000)
    assert part not in opened


@pytest.mark.parametrize("size", [0, 20, None])
def test_a_prompt_whose_text_is_lost_is_written_again(tmp_path: Path, size: int | None):
    log = RolloutLog(tmp_path)
    first, lost = add(log, "a document", "lost")
    part, row = part_path(tmp_path, 0), read_jsonl(log.prompts)[1]
    if size is None:
        part.unlink()
    else:
        os.truncate(part, row["at"] + size)
    again = RolloutLog(tmp_path)
    assert add(again, "a document", "lost") == [first, lost]
    assert texts(again)[-1] == "lost"
    assert [row["prompt"] for row in read_jsonl(log.prompts)][-1] == lost


@pytest.mark.parametrize("damage", [b'{"question": "no key"}\n', b"\0" * 5000 + b"\n", b'{"prompt": "\xe2\x82"}\n'])
def test_damaged_rows_are_skipped(tmp_path: Path, capsys, damage: bytes):
    log = RolloutLog(tmp_path)
    (first,) = add(log, "a document")
    with log.prompts.open("ab") as handle:
        handle.write(damage)
    again = RolloutLog(tmp_path)
    assert f"{log.prompts}: line 2 damaged and skipped" in capsys.readouterr().err
    assert add(again, "a document") == [first]
    assert len(texts(again)) == 1


@pytest.mark.parametrize("rest", [b"", b"x", b"x" * (1 << 16), b"x" * 200_000])
def test_what_a_kill_left_is_cut_off_however_long(tmp_path: Path, rest: bytes):
    path = tmp_path / "x.jsonl"
    for whole in (b"", b"{}\n", b"{}\n" * 40_000):
        path.write_bytes(whole + rest)
        drop_partial_line(path)
        assert path.read_bytes() == whole


def test_step_is_replaced_when_run_again(tmp_path: Path):
    log = RolloutLog(tmp_path)
    log.write_step("train", 3, [{"score": np.float32(0.5)}, {"score": 1.0}])
    log.drop_after(2)
    path = log.write_step("train", 3, [{"score": 0.25}])
    assert read_jsonl(path) == [{"step": 3, "score": 0.25}]
    assert [p.name for p in path.parent.iterdir()] == ["3.jsonl"]
    assert [row["score"] for row in read_jsonl(log.index)] == [0.25]


@pytest.mark.parametrize("step", [0, 1, 2, 5])
def test_a_resume_drops_the_steps_that_it_repeats(tmp_path: Path, step: int):
    log = RolloutLog(tmp_path)
    (prompt,) = add(log, "a document")
    log.write_step("val", 0, [{"score": 0.0}])
    for number in range(1, 5):
        if number == 2:
            log.write_step("val", 2, [{"score": 0.0}])
        log.write_step("filtered", number, [{"score": 0.0}])
        log.write_step("train", number, [{"score": 0.0}])
    with log.index.open("ab") as handle:
        handle.write(b'{"split": "tr')
    again = RolloutLog(tmp_path)
    again.drop_after(step)
    kept = [number for number in range(1, 5) if number <= step]
    assert [*step_files(tmp_path)] == [*step_files(tmp_path, "filtered")] == kept
    assert [*step_files(tmp_path, "val")] == ([] if step == 0 else [0, 2] if step >= 2 else [0])
    assert [row["step"] for row in read_jsonl(log.index) if row["split"] == "train"] == kept
    assert add(again, "a document") == [prompt]
    assert len(texts(again)) == 1


def test_what_json_cannot_hold_is_named(tmp_path: Path):
    with pytest.raises(TypeError, match="set is not JSON-serialisable"):
        RolloutLog(tmp_path).write_step("train", 1, [{"x": {1}}])
    assert not step_files(tmp_path)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "refuse",
    [
        lambda patch: patch.setattr(rollout_log, "append_lines", full),
        lambda patch: patch.setattr(rollout_log.os, "replace", full),
        lambda patch: patch.setattr(rollout_log.os, "fsync", full),
    ],
    ids=["no room for a line", "no room for a name", "an error when written through"],
)
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch, refuse: Callable[[pytest.MonkeyPatch], None]):
    log = RolloutLog(tmp_path)
    add(log, "a document")
    log.write_step("train", 1, [{"score": 1.0}])
    before = content(tmp_path)
    with monkeypatch.context() as patch:
        refuse(patch)
        with pytest.raises(OSError, match="No space"):
            log.write_step("train", 2, [{"score": 0.0}])
    assert content(tmp_path) == before
    add(log, "another")
    log.write_step("train", 2, [{"score": 0.5}])
    assert texts(RolloutLog(tmp_path)) == ["a document", "another"]
    assert [row["score"] for row in read_jsonl(log.index)] == [1.0, 0.5]
