"""The append-only log of a set's requests, keyed by what was asked: no answer is paid for twice.

Each line of answers.jsonl is one outcome: {"key", "row", "sample", "state", "text", ...}. Lines are appended in groups
by one thread and are on the disk (fsync) before the next group. A kill loses only what was not yet written, which is
asked again. Of two answers with one key the first one counts, so a table never changes; failures are asked again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
from verl_longrl.data.jsonl import append_lines, drop_partial_line, encode_line, warn_of_damage
from verl_longrl.trainer.checkpoints import sync

FAILED = "failed"
GROUP_S = 0.2
"""Seconds for which lines are collected before they are written together; one write and fsync for each answer would
cost more time than asking."""


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, the same for equal values whatever the order of their keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read_outcomes(path: Path) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
    """Index a log without holding its texts.

    Returns (key -> offset and length of the first answer's line, key -> the last error of requests without an answer).
    """
    answers: dict[str, tuple[int, int]] = {}
    errors: dict[str, str] = {}
    for offset, length, record in _lines(path):
        key = record["key"]
        if record["state"] == FAILED:
            errors[key] = str(record.get("error", ""))
        else:
            answers.setdefault(key, (offset, length))
    return answers, {key: error for key, error in errors.items() if key not in answers}


class OutcomeReader:
    """Reads single outcomes of a log by their key."""

    def __init__(self, path: Path) -> None:
        self.answers, self.errors = read_outcomes(path)
        self._file = path.open("rb") if path.is_file() else None

    def answer(self, key: str) -> dict[str, Any] | None:
        """The first answer with this key; None without one."""
        if self._file is None or key not in self.answers:
            return None
        offset, length = self.answers[key]
        record: dict[str, Any] = orjson.loads(os.pread(self._file.fileno(), length, offset))
        return record

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class RequestLog:
    """Appends outcomes from an event loop, which never waits for the disk. `async with` flushes at the end."""

    def __init__(self, path: Path) -> None:
        drop_partial_line(path)
        self.path = path
        self.answers, self.errors = read_outcomes(path)
        self._waiting: list[bytes] = []
        self._writing: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    async def __aenter__(self) -> RequestLog:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        if self._writing is not None:
            await self._writing

    def add(self, record: Mapping[str, Any]) -> None:
        """Append an outcome soon. Raises the OSError of an earlier write that failed, such as a full disk."""
        self._waiting.append(encode_line(record))
        if self._writing is not None and self._writing.done():
            self._writing.result()
            self._writing = None
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        while self._waiting:
            with suppress(TimeoutError):
                async with asyncio.timeout(GROUP_S):
                    await self._closing.wait()
            lines, self._waiting = b"".join(self._waiting), []
            await asyncio.to_thread(self._append, lines)

    def _append(self, lines: bytes) -> None:
        append_lines(self.path, lines)
        sync(self.path)


def _lines(path: Path) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """(offset, length, record) of each whole line; damaged ones are skipped with one message."""
    if not path.is_file():
        return
    offset, damaged = 0, []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            record = _read_record(line)
            if record is not None:
                yield offset, len(line), record
            elif line.endswith(b"\n"):
                damaged.append(number)
            offset += len(line)
    warn_of_damage(path, damaged)


def _read_record(line: bytes) -> dict[str, Any] | None:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    whole = isinstance(record, dict) and "key" in record and "state" in record and line.endswith(b"\n")
    return record if whole else None
