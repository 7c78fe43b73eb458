"""A document as passages: exact spans of it, one after another, none much longer or shorter than the others.

Blank lines divide a document; what is short (headings, lines of dialogue) joins what follows, and what is long is
divided at line ends, or else where sentences end. White space between passages belongs to none of them, everything
else to exactly one.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator

from data_gen.keychain.sentence_ends import sentence_ends
from data_gen.multitask.prompts import CLOSING
from data_gen.text import words

LONG = 3
"""Times the wanted length, a piece is divided further."""
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
"""Of the words of English prose, at least this share are common ones (usually twice as many)."""

Span = tuple[int, int]


def spans(text: str, length: int) -> list[Span]:
    """Passages of at least `length` words each, as spans of characters; a shorter text is one passage."""
    found: list[Span] = []
    start, have = 0, 0
    for piece in _pieces(text, (0, len(text)), length, 0):
        start = piece[0] if not have else start
        have += _words(text, piece)
        if have >= length:
            found.append((start, piece[1]))
            have = 0
    if have and found:
        found[-1] = (found[-1][0], len(text.rstrip()))
    elif have:
        found.append((start, len(text.rstrip())))
    return found


def is_english(text: str) -> bool:
    """Whether the words that are common in English are common in it; of a text without words they are not."""
    found = words(text[:200_000])
    return sum(word in _COMMON for word in found) > _ENGLISH * len(found)


def mistakable(text: str) -> bool:
    """Whether a reader could take part of the text for the prompt's own."""
    return bool(_HEADING.search(text)) or CLOSING.strip() in text


def _pieces(text: str, span: Span, length: int, level: int) -> Iterator[Span]:
    """The span, divided as far as its pieces are long and there is something to divide them at."""
    start, end = _stripped(text, span)
    if level == len(_DIVIDERS) or (level and _words(text, (start, end)) <= LONG * length):
        if start < end:
            yield start, end
        return
    cuts = [start, *(start + cut for cut in _DIVIDERS[level](text[start:end])), end]
    for a, b in itertools.pairwise(cuts):
        yield from _pieces(text, (a, b), length, level + 1)


def _words(text: str, span: Span) -> int:
    return len(text[span[0] : span[1]].split())


def _stripped(text: str, span: Span) -> Span:
    start, end = span
    inside = text[start:end]
    return start + len(inside) - len(inside.lstrip()), start + len(inside.rstrip())


def _ends_of(pattern: re.Pattern[str]) -> Callable[[str], list[int]]:
    return lambda text: [found.end() for found in pattern.finditer(text)]


_DIVIDERS: tuple[Callable[[str], list[int]], ...] = (_ends_of(_BLANK), _ends_of(_LINE), sentence_ends)
