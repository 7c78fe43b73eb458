"""Divide a document into passages: consecutive, exact spans of similar length.

Blank lines divide a document. Short pieces (headings, lines of dialogue) are joined with the following ones, long
pieces are divided at line ends, or at sentence ends if that is not enough. All text belongs to exactly one passage,
except for white space between passages.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator

from data_gen.keychain.sentence_ends import sentence_ends
from data_gen.multitask.prompts import CLOSING
from data_gen.text import words

LONG = 3
"""A piece of more than this many times the passage length is divided further."""
_BLANK = re.compile(r"\n[^\S\n]*\n\s*")
_LINE = re.compile(r"\n\s*")
_HEADING = re.compile(r"^\s*Passage\s+[0-9]+\s*:", re.IGNORECASE | re.MULTILINE)
# fmt: off
_COMMON = frozenset([
    "a", "and", "are", "as", "at", "be", "by", "for", "from", "had", "have", "in", "is", "it", "not", "of", "on", "or",
    "that", "the", "this", "to", "was", "were", "which", "with",
])
# fmt: on
_ENGLISH = 0.2
"""Lowest share of common words in English prose, which usually has twice as many."""

Span = tuple[int, int]


def passage_spans(text: str, length: int) -> list[Span]:
    """Passages of at least `length` words each, as spans of characters; a shorter text is one passage."""
    spans: list[Span] = []
    start, size = 0, 0
    for piece in _pieces(text, (0, len(text)), length, 0):
        start = piece[0] if not size else start
        size += _count_words(text, piece)
        if size >= length:
            spans.append((start, piece[1]))
            size = 0
    # What remains at the end is too short for a passage and joins the last one.
    if size and spans:
        spans[-1] = (spans[-1][0], len(text.rstrip()))
    elif size:
        spans.append((start, len(text.rstrip())))
    return spans


def is_english(text: str) -> bool:
    """Whether the text has as many of the most common English words as English prose has."""
    sampled = words(text[:200_000])
    return sum(word in _COMMON for word in sampled) > _ENGLISH * len(sampled)


def looks_like_prompt(text: str) -> bool:
    """Whether a reader could take a part of the text for a part of the prompt."""
    return bool(_HEADING.search(text)) or CLOSING.strip() in text


def _pieces(text: str, span: Span, length: int, level: int) -> Iterator[Span]:
    """The span, divided by the dividers from `level` on as long as its pieces are long."""
    start, end = _stripped(text, span)
    if level == len(_DIVIDERS) or (level and _count_words(text, (start, end)) <= LONG * length):
        if start < end:
            yield start, end
        return
    cuts = [start, *(start + cut for cut in _DIVIDERS[level](text[start:end])), end]
    for a, b in itertools.pairwise(cuts):
        yield from _pieces(text, (a, b), length, level + 1)


def _count_words(text: str, span: Span) -> int:
    return len(text[span[0] : span[1]].split())


def _stripped(text: str, span: Span) -> Span:
    start, end = span
    inside = text[start:end]
    return start + len(inside) - len(inside.lstrip()), start + len(inside.rstrip())


def _ends_of(pattern: re.Pattern[str]) -> Callable[[str], list[int]]:
    return lambda text: [match.end() for match in pattern.finditer(text)]


_DIVIDERS: tuple[Callable[[str], list[int]], ...] = (_ends_of(_BLANK), _ends_of(_LINE), sentence_ends)
"""Functions that find the places to divide a text at, from coarse to fine."""
