"""Read what runs have recorded: find runs, list their rollouts by the index, read one rollout or one prompt.

    run = RecordedRun(Path("outputs/demo"))
    run.info()["status"]                         "running", "complete", ... (run.json)
    run.index.update()                           reads what was appended since the last call
    rows = run.index.find("train", 57)           row numbers of the rollouts of step 57
    run.index["score"][rows]                     a column, as an array
    run.rollout(rows[0])                         the whole rollout, with its response
    run.prompts.update()
    run.prompts.text(run.index["prompt"][rows[0]])

Every call takes time in proportion to what it returns, whatever the size of the run: texts are read at their place in a
file. A run that is being written can be read: an incomplete last line is left for the next `update`. A damaged line is
skipped, and a text that does not match its key is None. Nothing here writes, and nothing needs torch, Ray or verl.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.json

from verl_longrl.data.jsonl import iterate_jsonl, parse_row
from verl_longrl.folder_lock import find_holder
from verl_longrl.trainer.rollout_log import INDEX, PROMPTS, SPLITS, Split, part_path, prompt_key, step_files, step_path

RUN_FILE: Final = "run.json"
RUNNING: Final = "running"
LOST: Final = "lost"
"""The status of a run that says it is running while no process holds its folder: it was killed."""
_MARKS = (RUN_FILE, "metrics.jsonl")
"""A folder with one of these holds a run."""
_NOT_ENTERED = {"rollouts", "checkpoints", "export", "tensorboard", "plots", "evaluate", "model"}
_BLOCK = 8 << 20
"""Bytes of an index that are read and parsed at once."""
_TEXTS = ("split", "prompt", "task", "status", "finish_reason")
_WHOLE = ("step", "at", "bytes", "group", "rollout")
_NUMBERS = (
    *("score", "answer", "context", "recall", "precision", "format", "cited", "outside"),
    *("response_tokens", "advantage", "logprob_gap", "seconds"),
)
COLUMNS = (*_TEXTS, *_WHOLE, *_NUMBERS)
"""Columns of an index: objects (text or None), int64 (-1 where a rollout has no such number), float64 (NaN there)."""
_TYPES = {**dict.fromkeys(_TEXTS, pa.string()), **dict.fromkeys(_WHOLE, pa.int64())}
_SCHEMA = pa.schema([(name, _TYPES.get(name, pa.float64())) for name in COLUMNS])
_DTYPES: dict[Any, type] = {pa.string(): object, pa.int64(): np.int64, pa.float64(): np.float64}


def list_runs(root: Path, depth: int = 3) -> list[Path]:
    """The folders of runs in and below a folder, sorted. Folders that a run fills are not searched."""
    runs = [root] if any((root / name).is_file() for name in _MARKS) else []
    if depth > 0:
        try:
            with os.scandir(root) as entries:
                inner = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            return runs
        for name in sorted(inner):
            if name not in _NOT_ENTERED and not name.startswith("."):
                runs += list_runs(root / name, depth - 1)
    return runs


def iterate_rollouts(folder: Path, split: Split = "train", keys: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """All rollouts of a split, step by step. folder: `rollouts` of a run, of any version. keys: what each must have."""
    for path in step_files(folder, split).values():
        yield from iterate_jsonl(path, keys)


class RecordedRun:
    """A run's folder, for reading. `index` and `prompts` are empty until their `update` is called."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rollouts = folder, folder / "rollouts"
        self.index, self.prompts = RolloutIndex(self.rollouts / INDEX), PromptIndex(self.rollouts)

    def info(self) -> dict[str, Any]:
        """The content of run.json; {} where there is none. The status of a killed run is `lost`."""
        try:
            info: Any = json.loads((self.folder / RUN_FILE).read_text())
        except (OSError, ValueError):
            return {}
        if not isinstance(info, dict):
            return {}
        if info.get("status") == RUNNING and find_holder(self.folder) is None:
            info["status"] = LOST
        return info

    def rollout(self, row: int) -> dict[str, Any] | None:
        """The rollout of a row of the index; None if its file is gone or damaged."""
        index = self.index
        path = step_path(self.rollouts, index["split"][row], int(index["step"][row]))
        return _read_row(path, int(index["at"][row]), int(index["bytes"][row]))


class RolloutIndex:
    """The columns of a run's `index.jsonl`, one entry for each rollout, in the order in which steps were written."""

    def __init__(self, path: Path) -> None:
        self._lines = _GrowingLines(path)
        self._columns = _read_columns(b"")

    def __len__(self) -> int:
        return len(self._columns["step"])

    def __getitem__(self, name: str) -> np.ndarray:
        """A column of shape (len(self),), see `COLUMNS`."""
        return self._columns[name]

    def update(self) -> bool:
        """Read what was written since the last call. Returns whether anything changed."""
        again = self._lines.begins_again()
        blocks = [_read_columns(b"") if again else self._columns]
        blocks += [_make_columns(lines) for _, lines in self._lines.blocks()]
        if again or len(blocks) > 1:
            self._columns = {name: np.concatenate([block[name] for block in blocks]) for name in COLUMNS}
        return again or len(blocks) > 1

    def find(self, split: Split, step: int | None = None) -> np.ndarray:
        """Row numbers of the rollouts of a split, of one step or of all."""
        rows = self["split"] == split
        return np.flatnonzero(rows if step is None else rows & (self["step"] == step))

    def steps(self, split: Split) -> np.ndarray:
        """The steps that have rollouts in a split, ascending."""
        return np.unique(self["step"][self.find(split)])


class Place(NamedTuple):
    """Where a line begins and how many bytes it has."""

    path: Path
    at: int
    bytes: int


class PromptIndex(Mapping[str, dict[str, Any]]):
    """Key -> what `prompts.jsonl` says about a prompt: task, question, ground_truth, ref_chunks, num_chunks, file, row,
    document, prompt_tokens and so on. Texts are read one at a time with `text`."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._lines = folder, _GrowingLines(folder / PROMPTS)
        self._rows: dict[str, dict[str, Any]] = {}
        self._places: dict[str, Place] = {}

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self._rows[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def update(self) -> bool:
        """Read what was written since the last call. Returns whether anything changed."""
        changed = self._lines.begins_again()
        if changed:
            self._rows, self._places = {}, {}
        for start, block in self._lines.blocks():
            changed = True
            for line in block.split(b"\n")[:-1]:
                self._add(line, start)
                start += len(line) + 1
        return changed

    def _add(self, line: bytes, start: int) -> None:
        row = parse_row(line)
        if row is None or not isinstance(key := row.get("prompt"), str):
            return
        # Rows of earlier versions have the text in them.
        if row.pop("text", None) is not None:
            self._places[key] = Place(self._folder / PROMPTS, start, len(line))
        elif _has_integers(row, "part", "at", "bytes"):
            self._places[key] = Place(part_path(self._folder, row["part"]), row["at"], row["bytes"])
        self._rows[key] = row

    def text(self, key: str) -> str | None:
        """The whole prompt; None if it is unknown, gone or damaged."""
        place = self._places.get(key)
        row = _read_row(*place) if place else None
        text = row.get("text") if row else None
        return text if isinstance(text, str) and prompt_key(text) == key else None


class _GrowingLines:
    """The whole lines of a file that others append to, cut off and replace."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._position, self._last = 0, b""

    def begins_again(self) -> bool:
        """Whether the file was cut off or replaced since the last call of `blocks`, which then begins again."""
        # A resume cuts off the steps that it repeats, and may have written them again.
        same = _read_bytes(self.path, self._position - len(self._last), len(self._last)) == self._last
        if not same:
            self._position, self._last = 0, b""
        return not same

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """(offset, lines) of what was appended since the last call, in blocks of whole lines."""
        rest = b""
        while read := _read_bytes(self.path, self._position + len(rest), _BLOCK):
            rest += read
            if end := rest.rfind(b"\n") + 1:
                self._last = rest[rest.rfind(b"\n", 0, end - 1) + 1 : end]
                self._position += end
                yield self._position - end, rest[:end]
                rest = rest[end:]


def _read_bytes(path: Path, at: int, size: int) -> bytes:
    """At most so many bytes from a place; none where there is no file."""
    try:
        with path.open("rb") as handle:
            handle.seek(at)
            return handle.read(size)
    except OSError:
        return b""


def _read_row(path: Path, at: int, size: int) -> dict[str, Any] | None:
    return parse_row(_read_bytes(path, at, size))


def _make_columns(lines: bytes) -> dict[str, np.ndarray]:
    """The columns of those of these lines that are rows of an index."""
    try:
        return _read_columns(lines)
    except (pa.ArrowInvalid, UnicodeDecodeError):
        # A damaged line is among them.
        rows = [row for line in lines.split(b"\n") if (row := parse_row(line)) is not None]
        return _read_columns(b"".join(orjson.dumps(_fitting_values(row)) + b"\n" for row in rows))


def _read_columns(lines: bytes) -> dict[str, np.ndarray]:
    if not lines:
        return {field.name: np.empty(0, _DTYPES[field.type]) for field in _SCHEMA}
    # Smaller blocks, so that several threads parse.
    read = pyarrow.json.ReadOptions(block_size=_BLOCK // 8)
    parse = pyarrow.json.ParseOptions(explicit_schema=_SCHEMA, unexpected_field_behavior="ignore")
    # Columns without dictionaries of each row, which would take ten times the memory.
    table = pyarrow.json.read_json(io.BytesIO(lines), read, parse)
    columns: dict[str, np.ndarray] = {}
    for name in COLUMNS:
        column = table[name].combine_chunks()
        if name in _TEXTS:
            # Equal texts are one object: many rollouts have few prompts, tasks and statuses.
            encoded = column.dictionary_encode()
            texts = np.array([*encoded.dictionary.to_pylist(), None], dtype=object)
            columns[name] = texts[encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]
        else:
            filled = column.fill_null(-1) if name in _WHOLE else column.fill_null(np.nan)
            columns[name] = filled.to_numpy(zero_copy_only=False)
    placed = np.logical_and.reduce([columns[name] >= 0 for name in ("step", "at", "bytes")])
    placed &= np.isin(columns["split"].astype(str), SPLITS)
    return columns if placed.all() else {name: column[placed] for name, column in columns.items()}


def _fitting_values(row: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a row that have the types of their columns."""
    types = {**dict.fromkeys(_TEXTS, (str,)), **dict.fromkeys(_WHOLE, (int,)), **dict.fromkeys(_NUMBERS, (int, float))}
    fitting = {name: value for name, value in row.items() if type(value) in types.get(name, ())}
    return {name: value for name, value in fitting.items() if isinstance(value, str) or abs(value) < 1 << 63}


def _has_integers(row: Mapping[str, Any], *names: str) -> bool:
    return all(type(row.get(name)) is int and row[name] >= 0 for name in names)
