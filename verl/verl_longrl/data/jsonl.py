"""Write and read the run's logs: lines of strict JSON, of which a kill or a full disk costs at most one line.

A kill, a power failure or a full disk leaves half a line, a block of NUL bytes, or two lines in one. The logs report
and decide nothing, so readers never fail: damaged lines are skipped, with one message that says how many. Numbers that
JSON does not have (NaN and the infinities) are null, when written and when read from files of earlier versions.
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
"""The error numbers of a full disk, and of a full quota of the user."""
_BLOCK = 1 << 16


def is_disk_full(error: BaseException) -> bool:
    """Whether the error is that of a full disk. An error of Ray counts by its cause."""
    cause = getattr(error, "cause", error)
    return isinstance(cause, OSError) and cause.errno in FULL


def dumps(value: Any, indent: int | None = None) -> str:
    """Strict JSON: null for NaN and the infinities, plain values for numpy's. Raises TypeError for any other type."""
    try:
        return json.dumps(value, ensure_ascii=False, default=_plain, allow_nan=False, indent=indent)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False, default=_plain, allow_nan=False, indent=indent)


def encode_line(row: Mapping[str, Any]) -> bytes:
    """Encode a row as one line. Lone surrogates, which UTF-8 cannot hold, become "?"."""
    return dumps(row).encode("utf-8", "replace") + b"\n"


def read_jsonl(path: Path, keys: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file, [] if it is absent.

    A row without all of `keys` counts as damaged and is skipped.
    """
    return list(iterate_jsonl(path, keys))


def iterate_jsonl(path: Path, keys: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """As `read_jsonl`, with one row in memory at a time.

    The file may be written to at the same time: an incomplete last line is skipped silently. Damaged lines are skipped
    with one message on stderr at the end.
    """
    damaged: list[int] = []
    for number, (_, row) in enumerate(_rows(path), 1):
        if row is None or any(key not in row for key in keys):
            damaged.append(number)
        else:
            yield row
    warn_of_damage(path, damaged)


def warn_of_damage(path: Path, damaged: Sequence[int]) -> None:
    """Print to stderr how many lines of a file were skipped, if any. damaged: their numbers, from 1."""
    if damaged:
        lines = f"line {damaged[0]}" if len(damaged) == 1 else f"{len(damaged)} lines (the first: {damaged[0]})"
        print(f"longrl: {path}: {lines} damaged and skipped", file=sys.stderr, flush=True)


def append_lines(path: Path, lines: bytes) -> None:
    """Append all of `lines`, or nothing. Raises OSError."""
    # Unbuffered, so that an error comes from `write` here and not later from `close`.
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
    """Remove an incomplete last line, which a kill leaves behind, so that the file can be appended to."""
    if path.is_file():
        with path.open("r+b") as handle:
            end = _end_of_last_line(handle)
            if end != handle.seek(0, os.SEEK_END):
                handle.truncate(end)


def truncate_after(path: Path, is_kept: Callable[[dict[str, Any]], bool]) -> None:
    """Truncate a file after its last row for which `is_kept` is true, and in any case after its last whole line.

    Reads backwards from the end, so it costs as much as it removes, whatever the size of the file. It needs no space on
    the disk, and writes nothing where there is nothing to remove.
    """
    if not path.is_file():
        return
    with path.open("r+b") as handle:
        size = handle.seek(0, os.SEEK_END)
        lines = ((start + len(text), parse_row(text)) for start, text in _lines_backwards(handle))
        end = next((end for end, row in lines if row is not None and is_kept(row)), 0)
        if end != size:
            handle.truncate(end)


class Journal:
    """A log to append to. Rows that a full disk refuses stay in memory and are written with the next row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: list[bytes] = []

    def add(self, row: Mapping[str, Any]) -> str | None:
        """Append a row. Returns the problem in words if the disk is full. Raises any other OSError."""
        self._waiting.append(encode_line(row))
        try:
            append_lines(self.path, b"".join(self._waiting))
        except OSError as error:
            if not is_disk_full(error):
                raise
            return f"{self.path}: {error.strerror}; {len(self._waiting)} lines are kept in memory until there is space"
        self._waiting.clear()
        return None


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """(offset, row) of each whole line, with None for a damaged row. Nothing if the file is absent."""
    if path.is_file():
        start = 0
        with path.open("rb") as handle:
            # A file opened as bytes has lines that end at \n only, not at U+2028 and the like, which documents contain.
            for text in handle:
                if text.endswith(b"\n"):
                    yield start, parse_row(text)
                    start += len(text)


def _lines_backwards(handle: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """(offset, line) of each whole line, the last one first."""
    position, rest = _end_of_last_line(handle), b""
    while position > 0:
        block = min(position, _BLOCK)
        position -= block
        handle.seek(position)
        rest = handle.read(block) + rest
        # The first line of what was read may begin earlier, unless the file begins here.
        first = rest.find(b"\n") + 1 if position else 0
        if position and not first:
            continue
        start = position + len(rest)
        for text in reversed(rest[first:].split(b"\n")[:-1]):
            start -= len(text) + 1
            yield start, text + b"\n"
        rest = rest[:first]


def parse_row(text: bytes) -> dict[str, Any] | None:
    """The row on a line; None if the line is damaged."""
    row: Any = None
    try:
        row = orjson.loads(text)
    except orjson.JSONDecodeError:
        # Earlier versions wrote NaN, which orjson refuses and json can read.
        try:
            row = json.loads(text, parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            return None
    return row if isinstance(row, dict) else None


def _finite(value: Any) -> Any:
    """`value` with None for numbers that JSON does not have."""
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
    """The offset at which the last whole line of a file ends, searched backwards from the end of the file."""
    end = handle.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _BLOCK)
        handle.seek(start)
        newline = handle.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
