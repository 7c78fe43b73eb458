"""Logs are strict JSON; damage costs the damaged lines and one message; a full disk costs no row that fits memory."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from verl_longrl.data import jsonl
from verl_longrl.data.jsonl import Journal, append_lines, dumps, encode_line, iterate_jsonl, read_jsonl, truncate_after


def strictly(text: str | bytes):
    """Parse as a parser that does not accept NaN."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"a": float("nan"), "b": [1.5, float("-inf")]}, {"a": None, "b": [1.5, None]}),
        ({"a": np.float32("inf"), "b": np.array([1.0, np.nan])}, {"a": None, "b": [1.0, None]}),
        ({"a": {"b": (np.int64(3), {"c": float("nan")})}}, {"a": {"b": [3, {"c": None}]}}),
        ({"a": "NaN", "b": "größer\u2028\ud800"}, {"a": "NaN", "b": "größer\u2028?"}),
    ],
)
def test_written_lines_are_strict_json(value, written):
    assert strictly(encode_line(value)) == written


def test_values_that_json_cannot_hold_are_named():
    with pytest.raises(TypeError, match="set is not JSON-serialisable"):
        dumps({"x": {1}})


@pytest.mark.parametrize(
    ("damage", "lines"),
    [
        (b'{"step": 2, "me\n', "line 2"),
        (b"\0" * 4096 + b"\n", "line 2"),
        (b'{"step": 2{"step": 3}\n', "line 2"),
        (b'{"step": 2, "text": "\xe2\x82"}\n', "line 2"),
        (b"[1, 2]\n17\n", "2 lines (the first: 2)"),
        (b'{"no": "step"}\n', "line 2"),
        (b'{"step": ' + b"[" * 100_000 + b"\n", "line 2"),
    ],
)
def test_damaged_lines_are_skipped_and_counted(tmp_path: Path, capsys, damage: bytes, lines: str):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + damage + b'{"step": 4}\n{"step": 5, "cut o')
    assert read_jsonl(path, ("step",)) == [{"step": 1}, {"step": 4}]
    assert capsys.readouterr().err == f"longrl: {path}: {lines} damaged and skipped\n"


def test_an_incomplete_last_line_is_not_damage(tmp_path: Path, capsys):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2, "text": "\xe2\x82')
    assert read_jsonl(path) == [{"step": 1}]
    assert read_jsonl(tmp_path / "absent.jsonl") == []
    assert capsys.readouterr().err == ""


def test_what_earlier_versions_wrote_for_nan_is_null(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": NaN, "grad_norm": -Infinity}\n')
    assert list(iterate_jsonl(tmp_path / "metrics.jsonl")) == [{"step": 1, "loss": None, "grad_norm": None}]


def test_a_partly_appended_line_is_removed(tmp_path: Path, monkeypatch):
    path = tmp_path / "x.jsonl"
    append_lines(path, b'{"a": 1}\n')
    with pytest.raises(OSError, match="No space"):
        _append_to_a_full_disk(path, b'{"a": 2, "long": "line"}\n', monkeypatch)
    assert path.read_bytes() == b'{"a": 1}\n'


def _append_to_a_full_disk(path: Path, text: bytes, monkeypatch) -> None:
    """The disk has space for three more bytes."""
    opened = Path.open

    class Full:
        def __init__(self, file) -> None:
            self.file, self.room = file, 3

        def __enter__(self):
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def __getattr__(self, name: str):
            return getattr(self.file, name)

        def write(self, block: bytes) -> int:
            if not self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = self.file.write(block[: self.room])
            self.room -= written
            return written

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda self, *args, **kwargs: Full(opened(self, *args, **kwargs)))
        append_lines(path, text)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_rows_that_a_full_disk_refuses_are_written_later(tmp_path: Path, monkeypatch, number: int):
    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    journal = Journal(tmp_path / "metrics.jsonl")
    assert journal.add({"step": 1}) is None
    with monkeypatch.context() as patch:
        patch.setattr(jsonl, "append_lines", full)
        assert "1 lines are kept in memory" in (journal.add({"step": 2}) or "")
        assert "2 lines are kept in memory" in (journal.add({"step": 3}) or "")
    assert journal.add({"step": 4}) is None
    assert [row["step"] for row in read_jsonl(journal.path)] == [1, 2, 3, 4]


def test_other_disk_errors_are_raised(tmp_path: Path):
    with pytest.raises(IsADirectoryError):
        Journal(tmp_path).add({"step": 1})


def test_truncating_writes_nothing_where_nothing_is_removed(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n\0\0\n{"step": 2}\n{"step": 3}\n{"step": 4, "c')
    truncate_after(path, lambda row: row["step"] <= 3)
    assert path.read_bytes() == b'{"step": 1}\n\0\0\n{"step": 2}\n{"step": 3}\n'
    before = path.stat().st_mtime_ns
    truncate_after(path, lambda row: row["step"] <= 3)
    assert path.stat().st_mtime_ns == before
    truncate_after(path, lambda row: row["step"] <= 1)
    assert path.read_bytes() == b'{"step": 1}\n'
    truncate_after(path, lambda row: False)
    assert path.read_bytes() == b""
    truncate_after(tmp_path / "absent.jsonl", lambda row: True)
    assert not (tmp_path / "absent.jsonl").exists()


@pytest.mark.parametrize("width", [1, 50, 1 << 16, 100_000], ids=["short", "lines", "a block", "longer than a block"])
def test_truncating_finds_every_line_from_the_end(tmp_path: Path, width: int):
    path, count = tmp_path / "x.jsonl", max(3, 200_000 // width)
    lines = [encode_line({"step": step, "pad": "x" * (width - step % 2)}) for step in range(count)]
    for kept in (count - 1, count // 2, 0):
        path.write_bytes(b"".join(lines) + b'{"step": ')
        truncate_after(path, lambda row, kept=kept: row["step"] <= kept)
        assert path.read_bytes() == b"".join(lines[: kept + 1])


def test_truncating_reads_what_it_removes(tmp_path: Path, monkeypatch):
    path, parsed = tmp_path / "x.jsonl", []
    path.write_bytes(b"".join(encode_line({"step": step}) for step in range(100_000)))
    parse_row = jsonl.parse_row
    monkeypatch.setattr(jsonl, "parse_row", lambda text: parsed.append(text) or parse_row(text))
    truncate_after(path, lambda row: row["step"] <= 99_990)
    assert len(parsed) == 10
