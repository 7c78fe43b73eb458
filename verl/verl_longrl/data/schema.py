"""The parquet schema of samples, the same for every task, so that files of different tasks can be concatenated.

Two things differ by task and would otherwise change the schema, so both are stored as JSON text:

- the ground truth: a plain string is stored as it is (`ground_truth_format` "text"), a list of answers or a dict as
  JSON (`ground_truth_format` "json"); `decode_ground_truth` returns the value that was written;
- fields of a task in addition to the fixed ones: `extra_info.payload`, a JSON object; `decode_extra_info` merges its
  keys into `extra_info`, where scorers find them in our files and in released ones alike.

Files written by others (released data sets) lack columns and have other ones; `read_sample` reads their rows. JSON is
strict: no NaN, no infinity, at most `MAX_DEPTH` levels. Imports pyarrow only.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP_ROWS = 128
"""Rows of the largest row group written. A row group of more than 2 GiB of text cannot be read."""
MAX_DEPTH = 100
"""Levels of lists and objects in a JSON value. Python's recursion ends at a few hundred."""

T = TypeVar("T")
GroundTruth = str | list | dict
Message = dict[str, str]

SCHEMA = pa.schema(
    [
        ("data_source", pa.string()),
        ("prompt", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("ability", pa.string()),
        (
            "reward_model",
            pa.struct([("style", pa.string()), ("ground_truth", pa.string()), ("ground_truth_format", pa.string())]),
        ),
        (
            "extra_info",
            pa.struct(
                [
                    ("index", pa.int64()),
                    ("split", pa.string()),
                    ("question", pa.string()),
                    ("task", pa.string()),
                    ("ref_chunks", pa.list_(pa.int32())),
                    ("ref_chunks_text", pa.list_(pa.string())),
                    ("num_chunks", pa.int32()),
                    ("payload", pa.string()),
                ]
            ),
        ),
        ("prompt_tokens", pa.int32()),
        ("tokenizer_fingerprint", pa.string()),
    ]
)
EXTRA_INFO_FIELDS = tuple(f.name for f in SCHEMA.field("extra_info").type)
"""The fixed fields of `extra_info`; any other field lives in its `payload`."""


def decode_ground_truth(reward_model: Mapping[str, Any]) -> GroundTruth:
    """The ground truth as it was written: a string, a list of answers or a dict.

    Released rows have no `ground_truth_format`; their value is returned as it is.

    Raises:
        ValueError: `ground_truth_format` is neither "text" nor "json", or the text is not strict JSON.
    """
    truth, form = reward_model["ground_truth"], reward_model.get("ground_truth_format")
    if form in (None, "text"):
        return truth
    if form == "json":
        return _parse_json(truth)
    raise ValueError(f'reward_model.ground_truth_format = {form!r}: expected "text" or "json"')


def decode_extra_info(extra_info: Mapping[str, Any] | None) -> dict[str, Any]:
    """`extra_info` as scorers see it: the payload's keys merged in, fields of null or NaN left out. Idempotent.

    Raises:
        ValueError: the payload is not an object in strict JSON.
    """
    fields = {name: value for name, value in (extra_info or {}).items() if not _is_missing(value)}
    payload = _parse_json(fields.pop("payload", "{}"))
    if not isinstance(payload, dict):
        raise ValueError(f"extra_info.payload is of type {type(payload).__name__}, expected a JSON object")
    return payload | fields


def _is_missing(value: Any) -> bool:
    """Whether a field has no value. pandas writes NaN for a missing number."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _parse_json(text: str) -> Any:
    """A JSON value. Raises ValueError for NaN, the infinities and more than `MAX_DEPTH` levels too."""
    try:
        value = _STRICT_JSON.decode(text)
    except RecursionError:
        raise ValueError(f"has more than {MAX_DEPTH} levels of lists and objects") from None
    if text.count("[") + text.count("{") > MAX_DEPTH:
        level = [value]
        for _ in range(MAX_DEPTH + 1):
            inner = (
                item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)
            )
            level = [item for items in inner for item in items]
        if level:
            raise ValueError(f"has more than {MAX_DEPTH} levels of lists and objects")
    return value


def _refuse_number(name: str) -> float:
    raise ValueError(f"{name[:40]} is not a number of strict JSON")


def _parse_float(text: str) -> float:
    number = float(text)
    # 1e999
    return number if math.isfinite(number) else _refuse_number(text)


_STRICT_JSON = json.JSONDecoder(parse_constant=_refuse_number, parse_float=_parse_float)


@dataclass(frozen=True)
class Sample:
    """One training sample, decoded; `to_row` and `from_row` convert to and from a row of `SCHEMA`.

    `ref_chunks` are 0-based ids of the evidence chunks in the prompt, `ref_chunks_text` their texts in the same order.
    Tasks without grounding have neither. `prompt_tokens` is the number of tokens of the prompt as the model sees
    it (chat template and generation prompt included), counted with the tokenizer that `tokenizer_fingerprint` names
    (see `verl_longrl.data.prompt_lengths`).
    """

    data_source: str
    prompt: list[Message]
    ground_truth: GroundTruth
    index: int
    split: str = "train"
    question: str = ""
    task: str = ""
    ability: str = ""
    style: str = "rule"
    ref_chunks: list[int] | None = None
    ref_chunks_text: list[str] | None = None
    num_chunks: int | None = None
    payload: dict[str, Any] = field(default_factory=dict)
    prompt_tokens: int | None = None
    tokenizer_fingerprint: str | None = None

    def to_row(self) -> dict[str, Any]:
        """A row of `SCHEMA`.

        Raises:
            ValueError: a payload key is the name of a fixed field of `extra_info`, or a value has no strict JSON.
        """
        if clash := sorted(set(self.payload) & set(EXTRA_INFO_FIELDS)):
            raise ValueError(f"payload has {clash}, which are fixed fields of extra_info. Fix: set them on the Sample")
        text = isinstance(self.ground_truth, str)
        return {
            "data_source": self.data_source,
            "prompt": self.prompt,
            "ability": self.ability,
            "reward_model": {
                "style": self.style,
                "ground_truth": self.ground_truth if text else _json(self.ground_truth),
                "ground_truth_format": "text" if text else "json",
            },
            "extra_info": {name: getattr(self, name) for name in EXTRA_INFO_FIELDS if name != "payload"}
            | {"payload": _json(self.payload) if self.payload else None},
            "prompt_tokens": self.prompt_tokens,
            "tokenizer_fingerprint": self.tokenizer_fingerprint,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any], index: int = 0) -> Sample:
        """The sample in a parquet row, ours or released; foreign `extra_info` fields go to `payload`.

        Args:
            row: one row as a dict. Foreign top-level columns are ignored.
            index: used where the row has no `extra_info.index`; pass the row's position in its file.

        Raises:
            ValueError: the row has no data_source, prompt or reward_model.ground_truth.
        """
        reward_model = row.get("reward_model") or {}
        for name, holder in (("data_source", row), ("prompt", row), ("ground_truth", reward_model)):
            if holder.get(name) is None:
                raise ValueError(f"row {index}: no {name} (columns: {sorted(row)}). Fix: see verl_longrl.data.validate")
        extra = decode_extra_info(row.get("extra_info"))
        fixed = {name: extra.pop(name) for name in EXTRA_INFO_FIELDS if name in extra}
        return cls(
            data_source=row["data_source"],
            prompt=row["prompt"],
            ground_truth=decode_ground_truth(reward_model),
            ability=row.get("ability") or "",
            style=reward_model.get("style") or "rule",
            payload=extra,
            prompt_tokens=row.get("prompt_tokens"),
            tokenizer_fingerprint=row.get("tokenizer_fingerprint"),
            **({"index": index, "split": ""} | fixed),
        )


def write_samples(path: str | Path, rows: Iterable[Sample | Mapping[str, Any]]) -> int:
    """Write `rows` to one parquet file, atomically, and return how many.

    `rows` may be a generator of any length: at most `ROW_GROUP_ROWS` are in memory at a time. A mapping is a row as in
    `SCHEMA`, in which ground truth and payload may still be Python objects, and fields of the payload may be directly
    in `extra_info`. The file appears under its name only when it is complete; after an error nothing is left behind.

    Raises:
        ValueError: no rows at all, an unknown column, or a value of the wrong type or without strict JSON (named with
            its row).
    """
    path = Path(path)

    def tables() -> Iterator[pa.Table]:
        first = 0
        for group in grouped(rows):
            yield _table([_encode(row, first + i, path) for i, row in enumerate(group)], first, path)
            first += len(group)

    return write_tables(path, SCHEMA, tables())


def write_tables(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> int:
    """Write tables of at most `ROW_GROUP_ROWS` rows to one parquet file, atomically, and return the number of rows.

    The file appears under its name only when it is complete. Raises ValueError for no rows at all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    count = 0
    try:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for table in tables:
                writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
                count += len(table)
        if not count:
            raise ValueError(f"{path}: no samples to write")
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def read_rows(path: str | Path, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Rows of any parquet file as dicts, in order, holding at most `ROW_GROUP_ROWS` of them in memory.

    A name in `columns` may be a nested field ("extra_info.ref_chunks"); None reads all.
    """
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ROW_GROUP_ROWS, columns=columns):
            yield from batch.to_pylist()


def read_samples(path: str | Path) -> Iterator[Sample]:
    """Samples of a parquet file, ours or released, in order; memory bounded as in `read_rows`."""
    for index, row in enumerate(read_rows(path, sample_columns(path))):
        yield read_sample(row, index)


def read_sample(row: Mapping[str, Any], number: int, prompt_key: str = "prompt") -> Sample:
    """The sample in a row of a file of any origin. Raises as `Sample.from_row`, and TypeError for what JSON lacks.

    An `extra_info.index` that is not a whole number becomes `original_index`, and the row's number is the index: verl
    accepts an index of any type. number: the row's position in its file.
    """
    extra = decode_extra_info(row.get("extra_info"))
    index = extra.pop("index", number)
    if isinstance(index, float | str) and re.fullmatch(r"-?[0-9]{1,18}(\.0)?", str(index)):
        index = int(float(index)) if isinstance(index, float) else int(index.removesuffix(".0"))
    if type(index) is not int or not -(1 << 63) <= index < 1 << 63:
        extra.setdefault("original_index", index)
        index = number
    return Sample.from_row({**row, "prompt": row[prompt_key], "extra_info": extra | {"index": index}}, number)


def sample_columns(path: str | Path, prompt_key: str = "prompt") -> list[str]:
    """The columns of a file that a sample is read from. Others are not read, so they may hold anything."""
    return [name for name in pq.read_schema(path).names if name in (*SCHEMA.names, prompt_key)]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)


def grouped(rows: Iterable[T]) -> Iterator[list[T]]:
    """Consecutive rows in lists of `ROW_GROUP_ROWS`, the last of which may be shorter."""
    rows = iter(rows)
    while group := list(islice(rows, ROW_GROUP_ROWS)):
        yield group


def _encode(row: Sample | Mapping[str, Any], index: int, path: Path) -> dict[str, Any]:
    if isinstance(row, Sample):
        return _named(row, index, path)
    if unknown := sorted(set(row) - set(SCHEMA.names)):
        raise ValueError(
            f"{path}: row {index}: unknown columns {unknown}, expected {SCHEMA.names}. Fix: put fields of a task "
            "into extra_info, which stores them in its payload"
        )
    row = dict(row)
    extra = dict(row.get("extra_info") or {})
    if isinstance(extra.get("payload"), Mapping):
        row["extra_info"] = extra | {"payload": _json(extra["payload"])}
    return _named(Sample.from_row(row, index), index, path)


def _named(sample: Sample, index: int, path: Path) -> dict[str, Any]:
    """The row of a sample, with the place in the message if it has none."""
    try:
        return sample.to_row()
    except ValueError as error:
        raise ValueError(f"{path}: row {index}: {error}") from error


def _table(rows: list[dict[str, Any]], first: int, path: Path) -> pa.Table:
    if unfit := find_unfit(rows):
        shown = f"{str(unfit.value)[:80]!r} ({type(unfit.value).__name__})"
        raise ValueError(f"{path}: row {first + unfit.row}: {unfit.column} = {shown}: expected {unfit.kind}")
    return pa.Table.from_pylist(rows, schema=SCHEMA)


class Unfit(NamedTuple):
    """A value that a column of `SCHEMA` cannot hold. row: its position among the rows."""

    row: int
    column: str
    value: Any
    kind: pa.DataType


def find_unfit(rows: list[dict[str, Any]]) -> Unfit | None:
    """The first value that does not fit into `SCHEMA`, such as a list in a column of text or an int32 of 2**40."""
    for column, kind, values in _leaves(rows):
        if not _fit(values, kind):
            row = next(row for row, value in enumerate(values) if not _fit([value], kind))
            return Unfit(row, column, values[row], kind)
    return None


def _fit(values: list[Any], kind: pa.DataType) -> bool:
    # pyarrow would make a list of letters of a text.
    if pa.types.is_list(kind) and any(isinstance(value, str) for value in values):
        return False
    try:
        pa.array(values, type=kind)
    except (ValueError, TypeError, OverflowError):
        return False
    return True


def _leaves(rows: list[dict[str, Any]]) -> Iterator[tuple[str, pa.DataType, list[Any]]]:
    """Name, type and values of each column, and of each field of a column of structs."""
    for column in SCHEMA:
        values = [row[column.name] for row in rows]
        if pa.types.is_struct(column.type):
            for field_ in column.type:
                yield f"{column.name}.{field_.name}", field_.type, [value[field_.name] for value in values]
        else:
            yield column.name, column.type, values
