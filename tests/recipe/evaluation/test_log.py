"""The log of requests: first answers count, failures do not, and damage costs one line."""

import asyncio
import os

import pytest

from recipe.longrl.evaluation import log
from recipe.longrl.evaluation.log import OutcomeReader, RequestLog, digest, read_outcomes


def write(path, *records):
    async def run():
        async with RequestLog(path) as written:
            for record in records:
                written.add(record)

    asyncio.run(run())


def answer(key, text, state="scored"):
    return {"key": key, "state": state, "text": text}


def test_the_first_answer_counts_and_errors_only_without_one(tmp_path):
    path = tmp_path / "answers.jsonl"
    write(path, {"key": "a", "state": "failed", "error": "400"}, answer("a", "one"), answer("a", "two", "cut"))
    write(path, {"key": "b", "state": "failed", "error": "503"})
    reader = OutcomeReader(path)
    assert reader.answer("a") == answer("a", "one")
    assert (reader.answer("b"), reader.errors) == (None, {"b": "503"})
    reader.close()


@pytest.mark.parametrize("damage", [b'{"key": "b", "state": "sco', b"\0" * 40 + b"\n", b'{"key": "c"}\n', b"[1]\n"])
def test_damaged_lines_are_skipped_and_appended_after(tmp_path, damage):
    path = tmp_path / "answers.jsonl"
    write(path, answer("a", "one"))
    with path.open("ab") as file:
        file.write(damage)
    write(path, answer("d", "four"))
    assert read_outcomes(path)[0].keys() == {"a", "d"}
    reader = OutcomeReader(path)
    assert reader.answer("d") == answer("d", "four")
    reader.close()


def test_every_line_is_on_the_disk_when_the_log_is_closed(tmp_path, monkeypatch):
    path, synced = tmp_path / "answers.jsonl", []
    monkeypatch.setattr(log, "sync", lambda file: synced.append(os.path.getsize(file)))
    write(path, *[answer(str(i), "x" * 100) for i in range(50)])
    assert len(read_outcomes(path)[0]) == 50
    assert synced[-1] == os.path.getsize(path)
    assert len(synced) < 50


def test_a_full_disk_ends_the_run(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(log, "append_lines", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "answers.jsonl", answer("a", "one"))


def test_digests_depend_on_content_alone():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": "1"})
    assert digest("\ud800") != digest("?")
