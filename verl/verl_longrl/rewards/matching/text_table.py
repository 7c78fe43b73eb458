"""Read tables written as text: Markdown, and values separated by commas, semicolons or tabs.

The last table of a text counts. Time is linear in the length of the text.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from itertools import groupby

_LINE_END = re.compile(r"\r\n?|\n")
_RULE = re.compile(r"\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?")
_CELL_END = re.compile(r"(?<!\\)\|")
_NUMBER = re.compile(r"[-+$€£]?[0-9][0-9.,]*%?")
_DELIMITERS = "\t;,"
_MAX_LINE = 100_000

TextTable = tuple[list[str] | None, list[list[str]]]
"""(column names or None, rows of cells)"""


def read_markdown(text: str) -> TextTable | None:
    """The last Markdown table with two rows or more, its header included. Its names are above the ruled line.

    >>> read_markdown("Here:\\n| a | b |\\n|---|---|\\n| 1 | 2 |")
    (['a', 'b'], [['1', '2']])
    """
    for lines in reversed(list(_blocks(text, "|"))):
        ruled = len(lines) > 1 and bool(_RULE.fullmatch(lines[1]))
        rows = [_cells(line) for line in lines if not _RULE.fullmatch(line)]
        if ruled:
            return rows[0], rows[1:]
        if len(rows) > 1 and all(line.startswith("|") for line in lines):
            return None, rows
    return None


def read_separated(text: str) -> TextTable | None:
    """The last run of two lines or more that have the same number of values, at least two.

    The first line has the names if it has no number and each other line has one.

    >>> read_separated("name,total\\n\\"Smith, Ann\\",1\\nThat is all.")
    (['name', 'total'], [['Smith, Ann', '1']])
    """
    for delimiter in _DELIMITERS:
        for lines in reversed(list(_blocks(text, delimiter))):
            try:
                rows = list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))
            except csv.Error:
                # An open quotation mark has made one value of all lines, and that is too long for a value.
                continue
            runs = [list(run) for _, run in groupby(rows, key=len)]
            tables = [run for run in runs if len(run) > 1 and len(run[0]) > 1]
            if tables:
                return _without_header([[cell.strip() for cell in row] for row in tables[-1]])
    return None


def _without_header(rows: list[list[str]]) -> TextTable:
    first, *others = [any(map(_NUMBER.fullmatch, row)) for row in rows]
    return (rows[0], rows[1:]) if not first and all(others) else (None, rows)


def _blocks(text: str, sign: str) -> Iterator[list[str]]:
    """The runs of lines that have `sign`."""
    lines = (line.strip() for line in _LINE_END.split(text))
    for inside, run in groupby(lines, key=lambda line: len(line) <= _MAX_LINE and sign in line):
        if inside:
            yield list(run)


def _cells(line: str) -> list[str]:
    line = line.removeprefix("|")
    cells = [cell.strip().replace("\\|", "|") for cell in _CELL_END.split(line)]
    return cells[:-1] if len(cells) > 1 and not cells[-1] and line.endswith("|") else cells
