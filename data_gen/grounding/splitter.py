"""Chunks of at most `max_tokens` tokens that begin and end where sentences do, as exact spans of the document.

The semantics are LongRLVR's: LangChain's recursive character splitter over separators from blank line to comma, each
kept at the start of the piece that follows it, length in tokens of the piece alone, no overlap, whitespace stripped.
Chunk for chunk the result is LangChain's (tests compare), in about one tokenising pass instead of three. Two things are
added: `document[start:end]` is the chunk, by construction instead of by search, and a piece without any separator,
which LangChain emits however long it is, is split at spaces, or between tokens where there are none.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

SEPARATORS = ("\n\n", "\n", ". ", "! ", "? ", "; ", ", ", "。", "！", "？", "；", "，")


class Encoding(Protocol):
    """What a tokenised text tells: the span of each token."""

    @property
    def offsets(self) -> list[tuple[int, int]]: ...


class FastTokenizer(Protocol):
    """The part of `tokenizers.Tokenizer` that is used here."""

    def encode_batch_fast(self, input: list[str], add_special_tokens: bool = True) -> list: ...

    def encode(self, sequence: str, add_special_tokens: bool = True) -> Encoding: ...


class Chunk(NamedTuple):
    """Characters [start, end) of a document, and the tokens of its pieces: a few more, at most, than it has alone."""

    start: int
    end: int
    tokens: int


class _Piece(NamedTuple):
    """Characters [start, end) made of `joins` + 1 neighbours whose tokens add up to `tokens`."""

    start: int
    end: int
    tokens: int
    joins: int = 0


class Splitter:
    """Splits documents into chunks.

    Args:
        tokenizer: a `tokenizers.Tokenizer` (a transformers fast tokenizer's `backend_tokenizer`).
        max_tokens: the most tokens of a chunk.
        separators: in order of preference.
    """

    def __init__(self, tokenizer: FastTokenizer, max_tokens: int, separators: Sequence[str] = SEPARATORS):
        if max_tokens < 1:
            raise ValueError(f"max_tokens = {max_tokens}; expected at least 1")
        self.tokenizer, self.max_tokens = tokenizer, max_tokens
        self._patterns = [re.compile(re.escape(separator)) for separator in separators]

    def split(self, document: str) -> list[Chunk]:
        """The chunks of a document, in order. Whitespace between chunks belongs to none; nothing else is left out."""
        chunks: list[Chunk] = []
        for piece in self._split(document, 0, len(document), 0):
            start, end = _strip(document, piece.start, piece.end)
            if start == end:
                continue
            tokens = piece.tokens
            if (
                piece.joins and tokens + piece.joins > self.max_tokens
            ):  # joined text may, rarely, have a token more at each joint
                (tokens,) = self._count([document[start:end]])
            chunks += [Chunk(start, end, tokens)] if tokens <= self.max_tokens else self._cut(document, start, end)
        return chunks

    def _split(self, document: str, start: int, end: int, level: int) -> list[_Piece]:
        """Merged pieces of document[start:end], split at the first separator from `level` on that occurs in it."""
        while level < len(self._patterns) and not self._patterns[level].search(document, start, end):
            level += 1
        bounds = [start]
        if level < len(self._patterns):
            bounds += [m.start() for m in self._patterns[level].finditer(document, start, end) if m.start() > start]
        bounds.append(end)
        spans = [(a, b) for a, b in itertools.pairwise(bounds) if a < b]
        merged: list[_Piece] = []
        short: list[_Piece] = []
        for (a, b), tokens in zip(spans, self._count([document[a:b] for a, b in spans]), strict=True):
            if tokens < self.max_tokens:
                short.append(_Piece(a, b, tokens))
                continue
            merged += self._merge(short)
            short = []
            if level + 1 < len(self._patterns):
                merged += self._split(document, a, b, level + 1)
            else:
                merged.append(_Piece(a, b, tokens))
        return merged + self._merge(short)

    def _merge(self, pieces: Iterable[_Piece]) -> list[_Piece]:
        """Neighbours joined, in order, as long as their tokens add up to no more than the limit."""
        merged: list[_Piece] = []
        for piece in pieces:
            if merged and merged[-1].tokens + piece.tokens <= self.max_tokens:
                last = merged[-1]
                merged[-1] = _Piece(last.start, piece.end, last.tokens + piece.tokens, last.joins + 1)
            else:
                merged.append(piece)
        return merged

    def _count(self, texts: list[str]) -> list[int]:
        return [len(e) for e in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def _cut(self, document: str, start: int, end: int) -> list[Chunk]:
        """Chunks of a piece that is too long: each as long as it can be, ending at a space if one is in its second
        half, and never inside a character."""
        offsets = self.tokenizer.encode(document[start:end], add_special_tokens=False).offsets
        ends = sorted({start + stop for _, stop in offsets if stop} | {end})
        chunks: list[Chunk] = []
        first = 0  # ends[first] is the first possible end of the next chunk
        while start < end:
            last = min(first + self.max_tokens, len(ends)) - 1
            while True:
                stop = ends[last]
                if stop < end:
                    space = max(document.rfind(space, start, stop) for space in " \n\t")
                    stop = space if space > (start + stop) // 2 else stop
                a, b = _strip(document, start, stop)
                (tokens,) = self._count([document[a:b]])
                if tokens <= self.max_tokens or last == first:
                    break
                last -= 1
            if a < b:
                chunks.append(Chunk(a, b, tokens))
            start = stop
            first = bisect_right(ends, start)
        return chunks


def _strip(document: str, start: int, end: int) -> tuple[int, int]:
    """The span without whitespace at its ends; (start, start) when there is nothing else in it."""
    text = document[start:end]
    left = len(text) - len(text.lstrip())
    return (start, start) if left == len(text) else (start + left, start + len(text.rstrip()))
