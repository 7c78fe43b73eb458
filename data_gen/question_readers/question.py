"""A question as every layout gives it: answers, passages, and the characters that the data set names as evidence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Layout = Literal["auto", "hotpotqa", "2wikimultihopqa", "musique", "squad", "natural_questions", "qasper", "generic"]
Span = tuple[int, int]
"""Characters [start, end) of a text."""


@dataclass(frozen=True)
class QuestionPassage:
    """A passage of a question. `gold`: the data set names it as evidence for the answer; `evidence`: the parts of
    `text` that it names, in order, without overlaps and without white space at their ends (see `merge_spans`)."""

    title: str
    text: str
    gold: bool
    evidence: tuple[Span, ...] = ()


@dataclass(frozen=True)
class AnnotatedQuestion:
    """A question and its passages.

    Attributes:
        answers: the answer, then its aliases.
        where: file, and line or row.
        layout: the layout in which it was read, never "auto".
        comparison: the answer names one of several things that are compared, wherever the text mentions it.
        group: the article that the question's passages are from, where the set has several passages of one article.
        unplaced: evidence that the data set names but that is not in the passages, in words.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    passages: tuple[QuestionPassage, ...]
    where: str
    layout: Layout = "generic"
    comparison: bool = False
    group: str = ""
    unplaced: tuple[str, ...] = ()


@dataclass(frozen=True)
class Skipped:
    """A valid row that has no answerable question. `reason`: a name to count it by."""

    where: str
    reason: str


class NotAsked(ValueError):
    """The row has no answerable question; the message is the reason of `Skipped`."""


def merge_spans(text: str, spans: Iterable[Span]) -> tuple[Span, ...]:
    """The spans without white space at their ends, in order; those with only white space between them become one.

    >>> merge_spans("One. Two. Three.", [(5, 10), (0, 4)])
    ((0, 9),)
    """
    merged: list[Span] = []
    for start, end in sorted(spans):
        part = text[start:end]
        start, end = end - len(part.lstrip()), start + len(part.rstrip())
        if start >= end:
            continue
        if merged and not text[merged[-1][1] : start].strip():
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return tuple(merged)
