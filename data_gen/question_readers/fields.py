"""Read the fields of a row and check their types; every error names the field, the value and what was expected."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from reprlib import repr as short
from typing import Any

from data_gen.document_readers import CorpusError
from data_gen.question_readers.question import Span

Row = dict[str, Any]


def get_field(row: Row, field: str, kind: type, within: str = "", default: Any = None, empty: bool = False) -> Any:
    """A field's value, checked. If the field is missing: the default, or an error if the default is None."""
    place = f"{within}.{field}" if within else field
    value = row.get(field)
    if value is None and default is None:
        raise CorpusError(f"{place}: missing, found {list_fields(row)}")
    return default if value is None else checked(value, kind, place, empty)


def checked(value: Any, kind: type, place: str, empty: bool = False) -> Any:
    """A value of this kind, not empty unless `empty` allows it; text as `clean` returns it."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise CorpusError(f"{place}: found {describe(value)}, expected {_KINDS[kind]}")
    if isinstance(value, str):
        value = clean(value)
    if value in ("", []) and not empty:
        raise CorpusError(f"{place}: empty, expected {_KINDS[kind]}")
    return value


def clean(text: str) -> str:
    """The text without white space at its ends, and without carriage returns before newlines. Lone surrogates, which
    cannot be written to a file, become "?"."""
    return text.replace("\r\n", "\n").encode("utf-8", "replace").decode().strip()


def move_to_clean(raw: str, spans: Iterable[Span]) -> Iterator[Span]:
    """Spans of a text as spans of `clean(text)`."""
    text = raw.replace("\r\n", "\n")
    removed = len(text) - len(text.lstrip())
    last = max(len(text.rstrip()), removed)

    def move(position: int) -> int:
        return min(max(position - raw.count("\r\n", 0, position), removed), last) - removed

    for start, end in spans:
        yield move(start), move(end)


def read_span(value: Any, text: str, place: str) -> Span:
    """A pair [start, end] of characters of a text."""
    pair = value if isinstance(value, list) and len(value) == 2 else (None, None)
    start, end = (number if isinstance(number, int) and not isinstance(number, bool) else -1 for number in pair)
    if not 0 <= start < end <= len(text):
        raise CorpusError(
            f"{place}: found {describe(value)}, expected [start, end] with 0 <= start < end <= {len(text)}, the "
            "characters of the text"
        )
    return start, end


def read_texts(row: Row, field: str, empty: bool = False) -> list[str]:
    """The texts in a field that has a text, a list of texts, or nothing."""
    value = row.get(field)
    values = value if isinstance(value, list) else [] if value is None else [value]
    return [checked(text, str, field, empty) for text in values]


def read_objects(row: Row, field: str, within: str = "") -> list[Row]:
    """A list of objects, which on the hub is an object of lists of the same length."""
    place = f"{within}.{field}" if within else field
    value = get_field(row, field, object, within, empty=True)
    if isinstance(value, dict) and value and all(isinstance(column, list) for column in value.values()):
        if len({len(column) for column in value.values()}) > 1:
            raise CorpusError(f"{place}: found {describe(value)}, expected lists of the same length")
        value = [dict(zip(value, values, strict=True)) for values in zip(*value.values(), strict=True)]
    for number, item in enumerate(checked(value, list, place, empty=True)):
        checked(item, dict, f"{place}[{number}]")
    return list(value)


def parse_json(value: Any) -> Any:
    """The value of JSON text; anything else unchanged."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value


def different_spellings(answers: Iterable[str]) -> tuple[str, ...]:
    """Answers in their order, each in its first spelling."""
    spellings: dict[str, str] = {}
    for text in answers:
        spellings.setdefault(text.casefold(), text)
    return tuple(spellings.values())


_KINDS = {str: "text", bool: "true or false", int: "a whole number", list: "a list", dict: "an object"}


def describe(value: Any) -> str:
    """A value, shortened, with its type."""
    return f"{short(value)} ({type(value).__name__})"


def list_fields(row: Row) -> str:
    """The names of a row's fields, in words."""
    more = f" and {len(row) - 12} more" if len(row) > 12 else ""
    return f"the fields {', '.join(list(row)[:12])}{more}" if row else "no fields"
