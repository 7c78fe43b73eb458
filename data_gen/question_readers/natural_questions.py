"""The layouts of Natural Questions: a Wikipedia page as tokens, and answers as ranges of them.

A row is of the simplified release (`document_text`), of the original one (`document_tokens`) or of the hub
(`document`). HTML tokens are left out; those that begin a block become a line end. Evidence is the short answer, or the
long one where the answer is yes or no. Several short answers of one annotator are parts of one answer, joined with
commas. Rows with a long answer alone are skipped.
"""

from __future__ import annotations

import re
from typing import Any

from data_gen.document_readers import CorpusError
from data_gen.question_readers.annotations import Annotation, combine
from data_gen.question_readers.fields import Row, checked, describe, get_field, read_objects
from data_gen.question_readers.question import NotAsked, QuestionPassage, Span, merge_spans

_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_BLOCK = re.compile(r"(?i)<(?:p|h[1-6]|li|ul|ol|dl|dd|dt|table|tr|div|br)\b")
_NO_SPACE_BEFORE = {",", ".", ";", ":", "!", "?", ")", "%", "'s", "n't", "''"}
_NO_SPACE_AFTER = {"(", "``", "$"}
_YES_NO = {"YES": "yes", "NO": "no", 1: "yes", 0: "no", "NONE": "", -1: "", None: ""}


def read_natural_question(row: Row) -> tuple[str, tuple[str, ...], QuestionPassage]:
    """Question, answers and document of a row. Raises NotAsked when there is no short answer, yes or no."""
    tokens = _tokens(row)
    text, spans = _join(tokens)
    annotations, long_only = [], False
    for number, item in enumerate(read_objects(row, "annotations")):
        place = f"annotations[{number}]"
        answer = item.get("yes_no_answer")
        if isinstance(answer, bool) or not isinstance(answer, str | int | None) or answer not in _YES_NO:
            raise CorpusError(f"{place}.yes_no_answer: found {describe(answer)}, expected YES, NO or NONE")
        long = _range(checked(item.get("long_answer"), dict, f"{place}.long_answer"), spans, f"{place}.long_answer")
        short = [
            _range(part, spans, f"{place}.short_answers[{n}]")
            for n, part in enumerate(read_objects(item, "short_answers", place))
        ]
        parts = [span for span in short if span and text[slice(*span)].strip()]
        if _YES_NO[answer] and long:
            annotations.append(Annotation(_YES_NO[answer], merge_spans(text, [long]), yes_no=True))
        elif parts:
            answer = ", ".join(text[start:end].strip() for start, end in parts)
            annotations.append(Annotation(answer, merge_spans(text, parts)))
        else:
            long_only |= long is not None
    if long_only and not annotations:
        raise NotAsked("no_short_answer")
    answers, first = combine(annotations)
    return _question(row), answers, QuestionPassage(_title(row), text, True, first.evidence)


def _question(row: Row) -> str:
    value = row.get("question_text", row.get("question"))
    question = value.get("text") if isinstance(value, dict) else value
    return str(checked(question, str, "question_text" if "question_text" in row else "question"))


def _title(row: Row) -> str:
    document = row.get("document")
    title = row.get("document_title") or (document.get("title") if isinstance(document, dict) else None)
    return str(checked(title or "", str, "document_title", empty=True))


def _tokens(row: Row) -> list[tuple[str, bool]]:
    """The tokens of the page, each with whether it is HTML."""
    if row.get("document_text") is not None:
        get_field(row, "document_text", str)
        return [(token, bool(_TAG.fullmatch(token))) for token in row["document_text"].split(" ")]
    if row.get("document_tokens") is not None:
        place, items, html = "document_tokens", read_objects(row, "document_tokens"), "html_token"
    else:
        place, html = "document.tokens", "is_html"
        items = read_objects(get_field(row, "document", dict), "tokens", "document")
    texts = [checked(item.get("token"), str, f"{place}[{n}].token", empty=True) for n, item in enumerate(items)]
    return list(zip(texts, [bool(item.get(html)) for item in items], strict=True))


def _join(tokens: list[tuple[str, bool]]) -> tuple[str, list[Span]]:
    """The text of the tokens, and the span of each in it."""
    pieces: list[str] = []
    spans: list[Span] = []
    length, before = 0, "\n"
    for token, is_html in tokens:
        if is_html:
            piece = "\n" if _BLOCK.match(token) and before != "\n" else ""
        else:
            close = before in ("\n", *_NO_SPACE_AFTER) or token in _NO_SPACE_BEFORE
            piece = token if close or not token else f" {token}"
        before = "\n" if piece == "\n" else token if piece else before
        pieces.append(piece)
        spans.append((length, length + len(piece)))
        length += len(piece)
    return checked("".join(pieces), str, "document"), spans


def _range(value: Any, spans: list[Span], place: str) -> Span | None:
    """The span of the tokens from start_token to end_token; None where there is no such answer (-1)."""
    value = checked(value, dict, place)
    start, end = (get_field(value, name, int, place) for name in ("start_token", "end_token"))
    if start < 0:
        return None
    if not start < end <= len(spans):
        raise CorpusError(
            f"{place}: found tokens {start} to {end}, expected start_token < end_token <= {len(spans)}, the tokens of "
            "the document"
        )
    return spans[start][0], spans[end - 1][1]
