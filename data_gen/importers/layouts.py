"""Read the rows of a file as training samples; a layout says what the fields of a row mean.

| layout | a row | becomes |
|---|---|---|
| rows | in this project's schema, or a released dataset's in verl's | the same row |
| dapo | DAPO-Math-17k's: a prompt with DAPO's own instruction | `math`, in this project's wording |
| math | `problem` or `question`, and `answer` | `math` |
| mathqa | `Problem`, `options`, `correct` | `loongrl_choice` |
| document | `context`, `question`, `answer`, maybe `task`; or LongBench Pro's | the task of GoLongRL that it names |
| choices | LongBench v2's: `context`, `question`, `choice_A` and so on, `answer` | `golongrl_choice` |
| tables | MultiTabQA's: `tables`, `question` or `query`, `answer` | `golongrl_table` |

Files are .parquet, .jsonl, or .json (a list, read whole); both also .gz. A row that cannot be used is
yielded as the reason why, so that every row is accounted for. A file that cannot be read is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from verl_longrl.data.row_checks import check_row
from verl_longrl.data.schema import Sample

from data_gen.document_readers import CorpusError, read_records, row_name
from data_gen.importers.documents import import_document
from data_gen.importers.fields import Unusable, describe_fields
from data_gen.importers.math_problems import DAPO, import_dapo, import_problem
from data_gen.importers.multiple_choice import import_long_choices, import_mathqa
from data_gen.importers.tables import import_tables

Layout = Literal["auto", "rows", "dapo", "math", "mathqa", "document", "choices", "tables"]
Row = Mapping[str, Any]


class ImportedRow(NamedTuple):
    """A row of a file: its number from 0, its place for messages, and its sample or why it cannot become one."""

    number: int
    where: str
    result: Sample | Unusable


def import_ready(row: Row) -> Sample:
    """Import a row that is a sample already. Raises Unusable (invalid) when the project's validator would refuse it."""
    extra = row.get("extra_info")
    if isinstance(extra, Mapping):
        # Rows are numbered when they are written.
        row = {**row, "extra_info": {**extra, "index": 0}}
    if findings := check_row(row):
        raise Unusable("invalid", str(findings[0]))
    return Sample.from_row(row)


IMPORTERS: dict[str, Callable[[Row], Sample]] = {
    "rows": import_ready,
    "dapo": import_dapo,
    "math": import_problem,
    "mathqa": import_mathqa,
    "document": import_document,
    "choices": import_long_choices,
    "tables": import_tables,
}
NEEDS = {
    "rows": "data_source, prompt, reward_model",
    "dapo": f"prompt, reward_model, data_source {DAPO}",
    "math": "problem or question, answer",
    "mathqa": "Problem, options, correct",
    "document": "context (a text), question or question_nonthinking, answer",
    "choices": "context, question, choice_A, choice_B, answer",
    "tables": "tables, question or query, answer",
}
_DOCUMENTS = {"context", "paragraphs", "passages"}


def layout_of(row: Row) -> Layout:
    """The layout that fits the fields of a row.

    Raises:
        CorpusError: there is none; the message names the row's fields and those of each layout.
    """
    fields = set(row)
    if {"options", "correct"} <= fields:
        return "mathqa"
    if {"prompt", "reward_model"} <= fields and row.get("data_source") == DAPO:
        return "dapo"
    if {"data_source", "prompt", "reward_model"} <= fields:
        return "rows"
    if {"choice_A", "choice_B"} <= fields:
        return "choices"
    if {"tables", "answer"} <= fields:
        return "tables"
    if "answer" in fields and fields & {"question", "question_nonthinking"} and isinstance(row.get("context"), str):
        return "document"
    if "answer" in fields and fields & {"problem", "question"} and not fields & _DOCUMENTS:
        return "math"
    layouts = "; ".join(f"{layout} has {names}" for layout, names in NEEDS.items())
    documents = ", or make prompts of it with data_gen.keychain first" if fields & _DOCUMENTS else ""
    raise CorpusError(
        f"no layout fits ({describe_fields(row)}; {layouts}); rename the fields, or name the layout{documents}"
    )


def file_layout(file: Path, layout: Layout = "auto") -> Layout:
    """`layout`, or if that is "auto" the one that fits the file's first row. Raises CorpusError."""
    if layout != "auto":
        return layout
    for _, where, row in _rows(file):
        try:
            return layout_of(row)
        except CorpusError as error:
            raise CorpusError(f"{where}: {error}") from error
    raise CorpusError(f"{file}: has no rows; leave it out")


def read_rows(
    file: Path, layout: Layout, spell: Callable[[str], str] = str, only: Collection[int] | None = None
) -> Iterator[ImportedRow]:
    """The rows of a file, in order.

    Args:
        layout: not "auto".
        spell: applied to every text of a row (SpecialTokens.break_up), except in layout `rows`.
        only: the numbers of the rows to read; None: all.

    Raises:
        CorpusError: the file, or a line of it, cannot be read.
    """
    last = max(only, default=-1) if only is not None else None
    for number, where, row in _rows(file):
        if last is not None and number > last:
            return
        if only is None or number in only:
            try:
                yield ImportedRow(number, where, IMPORTERS[layout](row if layout == "rows" else _spelled(row, spell)))
            except Unusable as error:
                yield ImportedRow(number, where, error)


def _spelled(value: Any, spell: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {name: _spelled(item, spell) for name, item in value.items()}
    if isinstance(value, list):
        return [_spelled(item, spell) for item in value]
    return spell(value) if isinstance(value, str) else value


def _rows(file: Path) -> Iterator[tuple[int, str, Row]]:
    for number, row in enumerate(read_records(file)):
        if isinstance(row, CorpusError):
            raise row
        where = f"{file}: {row_name(file, number)}"
        if not isinstance(row, dict):
            raise CorpusError(f"{where}: found {type(row).__name__}, expected an object; correct or remove it")
        yield number, where, row
