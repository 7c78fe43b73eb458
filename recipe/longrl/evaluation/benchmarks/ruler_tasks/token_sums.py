"""Count the tokens of a prompt as the sum of its pieces' tokens, each distinct piece tokenised once.

A prompt of 32K tokens has a few hundred distinct pieces (sentences, documents, words) that return in every trial and
sample. `TokenSums.adapt` checks with a real prompt that this tokenizer's tokens do add up; if not, prompts are
tokenised whole from then on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recipe.longrl.evaluation.benchmarks.ruler_tasks.drafts import Page

MOST_PIECES = 1 << 20
"""Distinct pieces remembered, so that memory does not grow with the number of rows."""
_AFTER_WORD, _AFTER_LINE = ".", "\n"
"""A piece is counted after one of these, because some tokenizers put a space before the first word of any text."""
_TEXT = "A"
"""A piece that ends a line is counted before this, because some tokenizers split "\\n\\n" where text follows."""


class TokenSums:
    """Counts of one tokenizer, a transformers fast tokenizer; special tokens are not counted."""

    def __init__(self, tokenizer: Any):
        self._backend = tokenizer.backend_tokenizer
        self._known: dict[str, int] = {}
        self._anchors = {anchor: self.count_text(anchor) for anchor in (_AFTER_WORD, _AFTER_LINE)}
        self._text_tokens = self.count_text(_AFTER_LINE + _TEXT) - self._anchors[_AFTER_LINE]
        self.adds_up = True

    def count_text(self, text: str) -> int:
        """Tokens of a text, by tokenising it."""
        return len(self._backend.encode(text, add_special_tokens=False))

    def count_page(self, page: Page, suffix: str = "") -> int:
        """Tokens of a page and a suffix that follows it without a space, such as the answer prefix."""
        if not self.adds_up:
            return page.before_tokens + self.count_text("".join(page.pieces) + suffix)
        return page.before_tokens + self._sum([*page.pieces[:-1], page.pieces[-1] + suffix])

    def adapt(self, page: Page) -> None:
        """Find out, from a page, whether tokens of pieces add up to the tokens of the text."""
        self.adds_up = self._sum(page.pieces) == self.count_text("".join(page.pieces))

    def _sum(self, pieces: Sequence[str]) -> int:
        first, *others = pieces
        missing = {piece for piece in others if piece not in self._known}
        if len(self._known) + len(missing) > MOST_PIECES:
            self._known.clear()
            missing = set(others)
        if missing:
            self._learn(list(missing))
        return self._count_followed(self.count_text(_with_text(first)), first) + sum(
            map(self._known.__getitem__, others)
        )

    def _learn(self, pieces: list[str]) -> None:
        anchors = [_AFTER_WORD if piece[0] == " " else _AFTER_LINE for piece in pieces]
        texts = [anchor + _with_text(piece) for anchor, piece in zip(anchors, pieces, strict=True)]
        encodings = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        for piece, anchor, encoding in zip(pieces, anchors, encodings, strict=True):
            self._known[piece] = self._count_followed(len(encoding), piece) - self._anchors[anchor]

    def _count_followed(self, tokens: int, piece: str) -> int:
        """The piece's share of the tokens of `_with_text(piece)`."""
        return tokens - self._text_tokens if piece.endswith("\n") else tokens


def _with_text(piece: str) -> str:
    return piece + _TEXT if piece.endswith("\n") else piece
