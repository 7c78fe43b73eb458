"""The project's own layout: JSON Lines with a question, its answers, texts, and evidence in any of three forms.

Texts are in `passages` or `documents`, a list of texts or of objects {id, title, text, gold, evidence}, or in
`document`, one of them. `gold: true` makes a whole text evidence. `evidence` of a text or of the row is a list of

- spans [start, end] of characters; at the row, of its only text or one list of spans for each text;
- texts, which must occur exactly once (in the text, or at the row in all of them together);
- at the row, ids of texts, or their numbers from 0 if they have no ids.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from data_gen.document_readers import CorpusError
from data_gen.question_readers.fields import (
    Row,
    checked,
    clean,
    describe,
    different_spellings,
    get_field,
    list_fields,
    move_to_clean,
    read_span,
    read_texts,
)
from data_gen.question_readers.question import QuestionPassage, Span, merge_spans

TEXT_FIELDS = ("passages", "documents", "document")


def read_generic_answers(row: Row) -> tuple[str, ...]:
    """The texts in answer and answers, then the aliases."""
    answers = read_texts(row, "answer") + read_texts(row, "answers")
    if not answers:
        raise CorpusError(f"answer or answers: missing, found {list_fields(row)}")
    answers += filter(None, read_texts(row, "answer_aliases", empty=True) + read_texts(row, "aliases", empty=True))
    return different_spellings(answers)


def read_generic_passages(row: Row) -> list[QuestionPassage]:
    """The texts of a row with their evidence. A row may have none."""
    items = list(_texts(row))
    # Text number -> spans of its raw text.
    spans: dict[int, list[Span]] = defaultdict(list)
    for number, (place, item) in enumerate(items):
        for at, entry in enumerate(get_field(item, "evidence", list, place, default=[], empty=True)):
            number_of_text, span = _place(entry, items[number : number + 1], f"{place}.evidence[{at}]")
            spans[number + number_of_text].append(span)
        if get_field(item, "gold", bool, place, default=False) and not item.get("evidence"):
            spans[number].append((0, len(item["text"])))
    for number, span in _row_evidence(get_field(row, "evidence", list, default=[], empty=True), items):
        spans[number].append(span)
    passages = []
    for number, (place, item) in enumerate(items):
        text = clean(item["text"])
        title = get_field(item, "title", str, place, default="", empty=True)
        evidence = merge_spans(text, move_to_clean(item["text"], spans[number]))
        passages.append(QuestionPassage(title, text, bool(evidence), evidence))
    return passages


def _texts(row: Row) -> Iterator[tuple[str, Row]]:
    """The place and the object of each text."""
    present = [field for field in TEXT_FIELDS if row.get(field) is not None]
    if len(present) > 1:
        raise CorpusError(f"{' and '.join(present)}: expected only one of {', '.join(TEXT_FIELDS)}")
    for field in present:
        value = row[field]
        single = field == "document"
        for number, item in enumerate([value] if single else checked(value, list, field, empty=True)):
            place = field if single else f"{field}[{number}]"
            text = checked({"text": item} if isinstance(item, str) else item, dict, place)
            get_field(text, "text", str, place)
            yield place, text


def _row_evidence(entries: list[Any], items: list[tuple[str, Row]]) -> Iterator[tuple[int, Span]]:
    ids = [item.get("id") for _, item in items]
    if named := [name for name in ids if name is not None]:
        if repeated := next((name for name in named if named.count(name) > 1), None):
            raise CorpusError(f"id {repeated!r}: several texts of the row have it")
    else:
        ids = list(range(len(items)))
    # Lists of spans, one for each text.
    if entries and len(items) > 1 and all(isinstance(entry, list) for entry in entries):
        if len(entries) != len(items) or not all(isinstance(span, list) for span in itertools.chain(*entries)):
            raise CorpusError(
                f"evidence: found {describe(entries)}, expected a list of spans [start, end] for each of the "
                f"{len(items)} texts, or spans in the evidence of a text"
            )
        for number, spans in enumerate(entries):
            for at, span in enumerate(spans):
                yield number, read_span(span, items[number][1]["text"], f"evidence[{number}][{at}]")
        return
    for at, entry in enumerate(entries):
        if isinstance(entry, str | int) and not isinstance(entry, bool) and entry in ids:
            number = ids.index(entry)
            yield number, (0, len(items[number][1]["text"]))
        elif isinstance(entry, int):
            raise CorpusError(f"evidence[{at}]: found {describe(entry)}, expected the id or number of a text")
        else:
            yield _place(entry, items, f"evidence[{at}]")


def _place(entry: Any, items: list[tuple[str, Row]], place: str) -> tuple[int, Span]:
    """The number of the text among `items` that has this evidence, and the span."""
    texts = [item["text"] for _, item in items]
    if isinstance(entry, list):
        if len(texts) != 1:
            raise CorpusError(f"{place}: found {describe(entry)}, a span, but the row has {len(texts)} texts")
        return 0, read_span(entry, texts[0], place)
    wording = checked(entry, str, place)
    found = [(number, at) for number, text in enumerate(texts) for at in _occurrences(wording, text)]
    if len(found) != 1:
        other = "" if found else "; or correct it, as it must be in the text to the letter"
        raise CorpusError(
            f"{place}: {describe(wording)} occurs {len(found)} times, expected once. Fix: give its span [start, end] "
            f"in the evidence of the text{other}"
        )
    number, start = found[0]
    return number, (start, start + len(wording))


def _occurrences(wording: str, text: str) -> Iterator[int]:
    at = text.find(wording)
    while at >= 0:
        yield at
        at = text.find(wording, at + 1)
