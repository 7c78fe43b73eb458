"""GoLongRL's IoU of tables: rows that both tables have, over rows that either has (arXiv 2605.19577, task IoU).

Answer form: JSON after the reasoning, in `<answer>`, in a code fence or bare.

Not seen: which cells of a row are right; one wrong cell makes another row.

    value = |P & G| / |P | G|     P, G: the multisets of rows given and expected

A table is JSON: {"columns": [...], "data": [[...], ...]}, a list of records, columns by name, or a list of rows, of
which the first may be the header; one object or list around it is ignored ({"table": ...}). Without such JSON it is a
Markdown table, or values separated by commas, semicolons or tabs. Of several tables the last one counts. Columns are
matched by name in any order where both tables have names. A name that the other table lacks is matched with the column
that remains in its place: nobody can guess the header of a computed column (`count(*)`). Without names, columns are
matched by position. A row with more or fewer cells than expected is another row. The order of rows does not matter; a
row given twice counts twice.

Cells are equal as numbers (1, 1.0 and "1"; 1000 and "1,000") or else by their tokens (`tokens.py`); an empty text is
null. As published, cells are equal when Python prints them alike, names are ignored, and the first `<answer>` must hold
an object with `data` and nothing else.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from verl_longrl.rewards.matching import lenient_json, text_table
from verl_longrl.rewards.matching.list_items import casefold_normalized
from verl_longrl.rewards.matching.response_format import parse_answer_area, parse_json
from verl_longrl.rewards.matching.tokens import MAX_CHARS, answer_tokens, canonical_number
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.registry import GoldError, scorer
from verl_longrl.rewards.score import Score
from verl_longrl.rewards.tasks.golongrl_gold import gold_label

MAX_CELLS = 50_000
"""A larger table earns nothing, so that scoring time stays bounded."""
MAX_TABLE_CHARS = 500_000
"""An answer with a longer table earns nothing either."""
_NAMES, _ROWS = ("columns", "header", "headers"), ("data", "rows")
_NULLS = {"", "null", "none", "nan", "n/a"}

TableRow = tuple[str, ...]


class AnswerTable(NamedTuple):
    """Rows of cells, and the names of their columns where they have any."""

    names: list[str] | None
    rows: list[list[Any]]


class TableOverlap(NamedTuple):
    """How two tables agree, all in [0, 1]."""

    iou: float
    recall: float
    precision: float


def read_table(value: Any) -> AnswerTable | None:
    """The table in a JSON value, perhaps with one object or list around it; None when the value is not a table."""
    if isinstance(value, list) and len(value) == 1 and (table := _read_bare_table(value[0])):
        return table
    if isinstance(value, Mapping) and not any(isinstance(value.get(key), list) for key in _ROWS):
        # There may be a title next to the table.
        tables = [table for table in map(_read_bare_table, value.values()) if table]
        return tables[0] if len(tables) == 1 else _read_columns(value)
    return _read_bare_table(value)


def _read_bare_table(value: Any) -> AnswerTable | None:
    if isinstance(value, Mapping):
        names = next((value[key] for key in _NAMES if isinstance(value.get(key), list)), None)
        rows = next((value[key] for key in _ROWS if isinstance(value.get(key), list)), None)
        if rows is None:
            return None
        table = _read_bare_table(rows) or AnswerTable(None, [row if isinstance(row, list) else [row] for row in rows])
        return AnswerTable([str(name) for name in names], table.rows) if names and not table.names else table
    if not isinstance(value, list) or not value:
        return None
    if all(isinstance(row, Mapping) for row in value):
        return _read_records(value)
    # A list of rows. A plain list such as [1] is a footnote, not a table.
    return AnswerTable(None, value) if all(isinstance(row, list) for row in value) else None


def _read_columns(columns: Mapping[str, Any]) -> AnswerTable | None:
    """A table of columns by name: {"name": ["Ann", "Bob"], "total": [1, 1000]}."""
    if len(columns) < 2 or not all(isinstance(column, list) for column in columns.values()):
        return None
    if len(set(map(len, columns.values()))) != 1:
        return None
    return AnswerTable(list(columns), [list(row) for row in zip(*columns.values(), strict=True)])


def _read_records(records: Sequence[Mapping[str, Any]]) -> AnswerTable | None:
    """A table of records, unless nearly all of its cells would be empty."""
    keys = list(dict.fromkeys(key for row in records for key in row))
    if len(keys) * len(records) > max(MAX_CELLS, 4 * sum(map(len, records))):
        return None
    return AnswerTable(keys, [[row.get(key) for key in keys] for row in records])


def find_table(text: str) -> AnswerTable | None:
    """The last table in a text: JSON, or else Markdown, or else separated values. None when it has none."""
    tables = [table for table in map(read_table, lenient_json.find_values(text)) if table]
    if tables:
        return tables[-1]
    written = text_table.read_markdown(text) or text_table.read_separated(text)
    return AnswerTable(*written) if written else None


def compare_tables(given: AnswerTable, expected: AnswerTable) -> TableOverlap:
    """The rows in common over all rows, over those expected and over those given; `expected` has at least one."""
    given = _with_names(given, expected)
    if sum(map(len, given.rows)) > MAX_CELLS:
        return TableOverlap(0.0, 0.0, 0.0)
    order = _order(given.names, expected.names)
    given_rows = Counter(_row([row[i] for i in order] if len(row) == len(order) else row) for row in given.rows)
    expected_rows = Counter(map(_row, expected.rows))
    common = (given_rows & expected_rows).total()
    either = len(given.rows) + len(expected.rows) - common
    return TableOverlap(common / either, common / len(expected.rows), common / max(1, len(given.rows)))


def _with_names(given: AnswerTable, expected: AnswerTable) -> AnswerTable:
    """`given` with its first row as column names, if that row holds the expected names."""
    if given.names is None and expected.names and given.rows:
        first = [str(cell) for cell in given.rows[0]]
        if sorted(map(_name, first)) == sorted(map(_name, expected.names)):
            return AnswerTable(first, given.rows[1:])
    return given


def _order(given: Sequence[str] | None, expected: Sequence[str] | None) -> list[int]:
    """The positions of the expected columns among the given ones; empty where names do not tell them apart."""
    if not given or not expected or len(given) != len(expected):
        return []
    left = list(range(len(given)))
    names = [_name(name) for name in given]
    order: list[int | None] = []
    for name in map(_name, expected):
        order.append(next((i for i in left if names[i] == name), None))
        left = [i for i in left if i != order[-1]]
    return [left.pop(0) if i is None else i for i in order]


def _name(name: str) -> str:
    return casefold_normalized(name.replace("_", " "))


def _row(cells: Sequence[Any]) -> TableRow:
    return tuple(map(_cell, cells))


def _cell(value: Any) -> str:
    """A cell, spelled so that equal cells are equal texts: 1000 for 1,000 and "" for null."""
    if isinstance(value, float):
        return _decimal(value)
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
    if casefold_normalized(text) in _NULLS:
        return ""
    words = answer_tokens(text) if len(text) <= MAX_CHARS else []
    if len(words) == 1 and canonical_number(words[0]):
        return _decimal(float(words[0])) if "." in words[0] else words[0]
    return " ".join(words) or casefold_normalized(text)


def _decimal(value: float) -> str:
    """A float in plain digits; 0.1 + 0.2 gives 0.3."""
    return canonical_number(f"{value:.12f}") if math.isfinite(value) else ""


def _published(values: Sequence[Any], expected: list[Any]) -> float:
    """IoU as released: `values` is the one JSON value that was read, or empty."""
    given = values[0].get("data", []) if values and isinstance(values[0], Mapping) else []
    if not isinstance(given, list):
        return 0.0
    given_rows, expected_rows = (
        Counter(tuple(map(str, row)) if isinstance(row, list) else str(row) for row in rows)
        for rows in (given, expected)
    )
    common = (given_rows & expected_rows).total()
    return common / (len(given) + len(expected) - common)


def gold_table(ground_truth: Any) -> AnswerTable:
    """The table asked for: JSON text, decoded JSON, or a released row's golden_label.

    Raises GoldError unless it is a table with at least one row.
    """
    table = read_table(_decoded(gold_label(ground_truth)))
    if not table or not table.rows:
        expected = 'JSON such as {"columns": ["name", "total"], "data": [["a", 1]]}, with at least one row'
        raise GoldError(ground_truth, "is not a table", expected)
    return table


def _decoded(label: Any) -> Any:
    try:
        return json.loads(label) if isinstance(label, str) else label
    except json.JSONDecodeError:
        return None


@scorer("golongrl_table", "multitableqa_pretraining", gold=lambda truth, _: gold_table(truth))
def golongrl_table(response: str, ground_truth: Any, extra_info: Mapping[str, Any], options: RewardOptions) -> Score:
    """Score a table; `ground_truth` is a table as JSON text or decoded, or a released row's golden_label.

    Raises GoldError unless it is a table with at least one row.
    """
    expected = gold_table(ground_truth)
    if options.paper_exact:
        parsed = parse_json(response, paper_exact=True)
        if parsed.error:
            return Score.format_error(parsed.error)
        value = _decoded(gold_label(ground_truth))
        rows = value["data"] if isinstance(value, dict) and "data" in value else expected.rows
        answer = _published(parsed.answer, rows)
        return Score.of_answer(answer)
    area = parse_answer_area(response, require_think=options.require_think)
    if area.error:
        return Score.format_error(area.error)
    table = find_table(area.answer) if len(area.answer) <= MAX_TABLE_CHARS else None
    if not table:
        return Score.format_error("no table in the answer: expected JSON with columns and data")
    agreement = compare_tables(table, expected)
    parts = {"answer": agreement.iou, "recall": agreement.recall, "precision": agreement.precision, "format": 1.0}
    return Score(agreement.iou, parts)
