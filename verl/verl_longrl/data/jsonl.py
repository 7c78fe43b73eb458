"""The run's own logs: lines of strict JSON, written so that a kill or a full disk costs a line and read without it.

A kill, a power cut or a full disk leaves half a line, a block of NUL bytes, two lines in one. The logs say what
happened and decide nothing, so no reader ends for them: what is no row is left out, with one line that says how many.
Numbers that JSON does not have (NaN and the infinities) are null, when written and when read from what earlier versions
wrote.
"""

import errno
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says when a disk, or the user's share of it, is full."""
_BLOCK = 1 << 16


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that a disk is full; Ray's, of what it was raised for."""
    cause = getattr(error, "cause", error)
    return isinstance(cause, OSError) and cause.errno in FULL


def dumps(value: Any, indent: int | None = None) -> str:
    """Strict JSON: null for NaN and the infinities, plain values for numpy's. Raises TypeError for what is neither."""
    try:
        return json.dumps(value, ensure_ascii=False, default=_plain, allow_nan=False, indent=indent)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False, default=_plain, allow_nan=False, indent=indent)


def encode_line(row: Mapping[str, Any]) -> bytes:
    """A row as a line of a file. Lone surrogates, which UTF-8 cannot hold, become "?"."""
    return dumps(row).encode("utf-8", "replace") + b"\n"


def read_jsonl(path: Path, keys: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file ([] if absent). keys: what each row must have, else it is left out as damaged."""
    return list(iterate_jsonl(path, keys))


def iterate_jsonl(path: Path, keys: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """As `read_jsonl`, with one row in memory at a time. The file may be written to meanwhile: a last line without its
    end is left out in silence, damaged ones with a line on standard error at the end."""
    damaged: list[int] = []
    for number, (_, row) in enumerate(_rows(path), 1):
        if row is None or any(key not in row for key in keys):
            damaged.append(number)
        else:
            yield row
    warn_of_damage(path, damaged)


def warn_of_damage(path: Path, damaged: Sequence[int]) -> None:
    """Say on standard error how many lines of a file were left out, if any. damaged: their numbers, from 1."""
    if damaged:
        lines = f"line {damaged[0]}" if len(damaged) == 1 else f"{len(damaged)} lines (the first: {damaged[0]})"
        print(f"longrl: {path}: {lines} damaged, and left out", file=sys.stderr, flush=True)


def append_lines(path: Path, lines: bytes) -> None:
    """Append whole lines, or nothing at all. Raises OSError."""
    with path.open("ab", buffering=0) as handle:
        end = handle.seek(0, os.SEEK_END)
        try:
            written = 0
            while written < len(lines):
                written += handle.write(lines[written:]) or 0
        except OSError:
            handle.truncate(end)
            raise


def drop_partial_line(path: Path) -> None:
    """Cut off what a kill left behind the last whole line, so that the file can be appended to."""
    if path.is_file():
        with path.open("r+b") as handle:
            end = _end_of_last_line(handle)
            if end != handle.seek(0, os.SEEK_END):
                handle.truncate(end)


def truncate_before(path: Path, begins: Callable[[dict[str, Any]], bool]) -> None:
    """Cut a file off before the first row for which this is true, and behind its last whole line. Takes no room on the
    disk, and writes nothing where there is nothing to cut."""
    start = next((start for start, row in _rows(path) if row is not None and begins(row)), None)
    if start is None:
        drop_partial_line(path)
    else:
        os.truncate(path, start)


class Journal:
    """A log that is appended to; rows that a full disk refuses wait in memory and are written with the next."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: list[bytes] = []

    def add(self, row: Mapping[str, Any]) -> str | None:
        """Append a row. What hinders it, in words, if the disk is full. Raises any other OSError."""
        self._waiting.append(encode_line(row))
        try:
            append_lines(self.path, b"".join(self._waiting))
        except OSError as error:
            if not is_disk_full(error):
                raise
            return f"{self.path}: {error.strerror}; {len(self._waiting)} lines wait in memory for room"
        self._waiting.clear()
        return None


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Where each whole line of a file begins, and its row: None if it is damaged. Nothing if the file is absent."""
    if path.is_file():
        start = 0
        with path.open("rb") as handle:
            for text in handle:  # ends at \n alone, not at U+2028 and its like, which documents hold
                if text.endswith(b"\n"):
                    yield start, _row(text)
                    start += len(text)


def _row(text: bytes) -> dict[str, Any] | None:
    """A line's row; None if it is damaged."""
    row: Any = None
    try:
        row = orjson.loads(text)
    except orjson.JSONDecodeError:  # perhaps for a NaN alone, which earlier versions wrote
        try:
            row = json.loads(text, parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            return None
    return row if isinstance(row, dict) else None


def _finite(value: Any) -> Any:
    """The value with null for numbers that JSON does not have."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON-serialisable: {value!r}")


def _end_of_last_line(handle: IO[bytes]) -> int:
    """Where the last whole line of a file ends, looked for from the file's end."""
    end = handle.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _BLOCK)
        handle.seek(start)
        newline = handle.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
