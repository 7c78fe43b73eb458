"""Read rows of benchmark files that a user has downloaded, and name the file, row and field of anything missing.

A path is a file, or a folder in which the benchmark's own file names are looked for. Without a path, it is the folder
of the benchmark's name in the cache (see `recipe.longrl.evaluation.sources`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from reprlib import repr as shorten
from typing import Any, NamedTuple

from verl_longrl.data.prompt import TAG, ChunkTagError, parse_chunks

from data_gen.document_readers import CorpusError, read_records, row_name
from recipe.longrl.evaluation.records import NO_DOCUMENT
from recipe.longrl.evaluation.sources import cache_folder

_MISSING = object()


class DataError(ValueError):
    """A file, row or field that cannot be used; the message names it, what was expected, and the fix."""


class FileRow(NamedTuple):
    """A row of a file, with its place for messages."""

    file: Path
    number: int
    values: Mapping[str, Any]

    @property
    def place(self) -> str:
        return f"{self.file}: {row_name(self.file, self.number)}"

    def text(self, field: str) -> str:
        """A text field. Numbers count as text, because some files have ids as numbers."""
        value = self._value(field)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self.wrong(field, "a text")
        return str(value)

    def integer(self, field: str) -> int:
        """An integer field."""
        value = self._value(field)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(field, "an integer")
        return value

    def texts(self, field: str) -> list[str]:
        """A field with a list of texts, of which there is at least one."""
        value = self._value(field)
        if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
            raise self.wrong(field, "a list of texts")
        return value

    def integers(self, field: str) -> list[int]:
        """A field with a list of integers, which may be empty."""
        value = self._value(field)
        if not isinstance(value, list) or not all(type(item) is int for item in value):
            raise self.wrong(field, "a list of integers")
        return value

    def choice(self, field: str, choices: Sequence[str]) -> str:
        """A text field with one of a few values."""
        value = self.text(field).strip()
        if value not in choices:
            raise self.wrong(field, f"one of {', '.join(choices)}")
        return value

    def messages(self, field: str) -> tuple[dict[str, str], ...]:
        """A field with chat messages, each of which has a role and a content."""
        return checked_messages(self._value(field), self.wrong(field, "a list of messages with role and content"))

    def wrong(self, field: str, expected: str) -> DataError:
        """The error that this field is not as expected."""
        value = self.values.get(field, _MISSING)
        found = "missing" if value is _MISSING else f"found {shorten(value)}"
        return DataError(
            f"{self.place}: {field}: {found}, expected {expected}. Fix: use the benchmark's own file; this row has the "
            f"fields {', '.join(map(str, list(self.values)[:16])) or 'none at all'}"
        )

    def _value(self, field: str) -> Any:
        if field not in self.values:
            raise self.wrong(field, "the benchmark's field of that name")
        return self.values[field]


def checked_messages(value: Any, error: DataError) -> tuple[dict[str, str], ...]:
    """Messages with their role and content alone. Raises the error for anything else."""
    if not isinstance(value, list) or not value:
        raise error
    for message in value:
        if not isinstance(message, Mapping) or not all(isinstance(message.get(k), str) for k in ("role", "content")):
            raise error
    return tuple({"role": message["role"], "content": message["content"]} for message in value)


def find_files(path: str | Path | None, benchmark: str, pattern: str, origin: str) -> list[Path]:
    """The file at `path`, or the files of a folder that match `pattern`, sorted; there is at least one.

    origin: where a user gets the files, for the message.

    Raises:
        DataError: there are none.
    """
    place = Path(path) if path else cache_folder() / benchmark
    files = [place] if place.is_file() else sorted(place.glob(pattern))
    if not files:
        raise DataError(
            f"path = {place}: has no file {pattern}. Fix: download {origin} (it is not on PyPI), and give "
            f"its folder as options.path, or copy it to {cache_folder() / benchmark}"
        )
    return files


def find_task_files(
    path: str | Path | None, benchmark: str, patterns: Mapping[str, str], origin: str
) -> list[tuple[str, Path]]:
    """(task, file) for the pattern of each task; of one file at `path`, only the task whose pattern it matches.

    Raises:
        DataError: a task has no file.
    """
    if path and Path(path).is_file():
        matches = [(task, Path(path)) for task, pattern in patterns.items() if Path(path).match(pattern.split("/")[-1])]
        if not matches:
            names = ", ".join(pattern.split("/")[-1] for pattern in patterns.values())
            raise DataError(f"path = {path}: expected a file named {names}. Fix: keep the names of {origin}")
        return matches
    return [(task, file) for task, glob in patterns.items() for file in find_files(path, benchmark, glob, origin)]


def check_tasks(tasks: Sequence[str], known: Sequence[str]) -> None:
    """Raise DataError if a task is not one of those known."""
    for task in tasks:
        if task not in known:
            raise DataError(f"tasks = {task}: unknown. Fix: use some of {', '.join(known)}")


def read_rows(file: Path) -> Iterator[FileRow]:
    """The rows of a .jsonl, .json (a list) or .parquet file.

    Raises:
        DataError: the file or a line cannot be read, or a row is not an object.
    """
    for number, record in enumerate(read_records(file)):
        if isinstance(record, CorpusError):
            raise DataError(str(record)) from record
        if not isinstance(record, Mapping):
            raise DataError(f"{file}: {row_name(file, number)}: found {shorten(record)}, expected an object")
        yield FileRow(file, number, record)


def cluster_of(text: str) -> str:
    """A short name of a document, equal for equal texts."""
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=6).hexdigest()


def without_chunks(messages: Sequence[Mapping[str, str]]) -> tuple[dict[str, str], ...]:
    """The messages with `NO_DOCUMENT` in place of the tagged chunks of the last one; () if it has no chunks."""
    *before, last = messages
    content = last["content"]
    tags = [tag for tag in TAG.finditer(content) if tag[1]]
    try:
        parse_chunks(content)
    except ChunkTagError:
        return ()
    start = content.rfind("<CHUNK_0>", 0, tags[-1].start())
    text = content[:start] + NO_DOCUMENT + content[tags[-1].end() :]
    return tuple({"role": each["role"], "content": each["content"]} for each in (*before, {**last, "content": text}))


def user_message(content: str) -> tuple[dict[str, str], ...]:
    """A prompt of one user message."""
    return ({"role": "user", "content": content},)
