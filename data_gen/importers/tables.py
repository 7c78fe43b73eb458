"""Import questions about several tables whose answer is a table, as the task golongrl_table (IoU of rows).

Rows are MultiTabQA's (arXiv 2305.12820), which ask in SQL or in words and have tables and answer as the JSON that
pandas writes with orient="split", or plain rows: a table may be such JSON or the object itself, a list of records, or
any text. Tables are shown as CSV below their names. The prompt names the columns that the answer must have.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from reprlib import repr as short
from typing import Any

from verl_longrl.data.schema import Sample
from verl_longrl.rewards.tasks.golongrl_table_iou import AnswerTable, read_table

from data_gen.importers.fields import (
    Unusable,
    clean,
    describe_fields,
    language_of,
    long_sample,
    prove_sample,
    required_text,
)
from data_gen.importers.prompts import RUN_QUERY, TABLE_HEADING, TABLES, question_about, table_instruction

TABLE = "golongrl_table"
MAX_ANSWER = 16_000
"""Characters of an answer's JSON; a response would have no room for a longer one."""


def import_tables(row: Mapping[str, Any]) -> Sample:
    """Import a row with `tables`, `question` or `query` (SQL), `answer`, and maybe `table_names`.

    Raises:
        Unusable: also (no_tables) no tables, (unreadable_table) one that is neither a table nor text, and those of
            `table_sample`.
    """
    asked, language = clean(row.get("question")), language_of(row)
    question = asked or RUN_QUERY[language].format(required_text(row, "query"))
    return table_sample(row, _shown(row, language), TABLES[language], question)


def table_sample(row: Mapping[str, Any], shown: str, between: tuple[str, str], question: str) -> Sample:
    """A question about the tables or text shown; the row's `answer` is a table.

    Raises:
        Unusable: (no_answer) not a table with a row in it, (no_columns) one without column names, (long_answer).
    """
    gold = read_table(_decoded(row.get("answer")))
    if not gold or not gold.rows:
        raise Unusable(
            "no_answer",
            f"answer is {short(row.get('answer'))}, expected a table with at least one row, such as "
            f'{{"columns": ["name"], "data": [["Ann"]]}} ({describe_fields(row)})',
        )
    if not gold.names:
        raise Unusable("no_columns", f"answer is {short(row['answer'])}, expected a table that names its columns")
    written = json.dumps({"columns": gold.names, "data": gold.rows}, ensure_ascii=False, default=str)
    if len(written) > MAX_ANSWER:
        raise Unusable("long_answer", f"the answer has {len(written):,} characters, more than {MAX_ANSWER:,}")
    language, truth = language_of(row), json.loads(written)
    prompt = question_about(shown, between, question, table_instruction(gold.names, language))
    return prove_sample(long_sample(TABLE, prompt, truth, question, row), truth, language)


def _shown(row: Mapping[str, Any], language: str) -> str:
    """All tables, each below its name."""
    values, names = row.get("tables"), row.get("table_names")
    if not isinstance(values, list) or not values:
        raise Unusable("no_tables", f"tables is {short(values)}, expected a list of tables ({describe_fields(row)})")
    if not isinstance(names, list) or len(names) != len(values):
        names = [value.get("name") if isinstance(value, Mapping) else None for value in values]
    return "\n\n".join(
        TABLE_HEADING[language].format(clean(name) or number) + _written(value)
        for number, (name, value) in enumerate(zip(names, values, strict=True), 1)
    )


def _written(value: Any) -> str:
    """A table as CSV; any other text as it is."""
    table = read_table(_decoded(value))
    if table:
        return _csv(table)
    if isinstance(value, str) and value.strip():
        return clean(value)
    raise Unusable("unreadable_table", f"a table is {short(value)}, expected columns and data, records, or text")


def _csv(table: AnswerTable) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    if table.names:
        writer.writerow(table.names)
    writer.writerows([[_cell(cell) for cell in row] for row in table.rows])
    return file.getvalue().strip("\n")


def _cell(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False, default=str)


def _decoded(value: Any) -> Any:
    """The value of a JSON text; anything else, including other text, as it is."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value
