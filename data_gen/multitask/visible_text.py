"""The part of a document that a prompt shows. Questions and answers are computed from this alone, so no question is
about text that its prompt does not show."""

from __future__ import annotations

import itertools
import random
import unicodedata
from collections.abc import Sequence
from functools import cached_property

from data_gen.multitask.quotable_sentences import sentence_runs
from data_gen.multitask.terms import Term, find_terms, find_years


class VisibleText:
    """Consecutive passages of a document, numbered from 1."""

    def __init__(self, passages: Sequence[str]):
        self.passages = list(passages)

    def __len__(self) -> int:
        return len(self.passages)

    @cached_property
    def flat(self) -> list[str]:
        """The passages on one line each, with single spaces, in Unicode's composed form."""
        return [flatten(passage) for passage in self.passages]

    @cached_property
    def terms(self) -> list[Term]:
        """The words that a question may name."""
        return find_terms(self.flat)

    @cached_property
    def years(self) -> dict[int, list[int]]:
        """Each year with the passages that mention it; none if some year is uncertain."""
        return find_years(self.flat)

    def runs(self, number: int) -> list[list[str]]:
        """The runs of consecutive quotable sentences in a passage (see quotable_sentences.py)."""
        return list(sentence_runs(self.passages[number - 1]))

    def contains_once(self, quote: str) -> bool:
        """Whether the text contains this exactly once, ignoring case."""
        return self._folded.count(flatten(quote).casefold()) == 1

    def quotes(self, count: int, draw: random.Random) -> list[tuple[int, str]]:
        """Up to `count` sentences that occur once in the text, in order, each with the number of its passage.

        The text is divided into `count` ranges of passages, and one sentence is drawn from each, so that they are far
        apart.
        """
        bounds = [len(self) * i // count for i in range(count + 1)]
        quotes = []
        for a, b in itertools.pairwise(bounds):
            quote = self._draw_quote(draw.sample(range(a + 1, b + 1), b - a), draw)
            if quote:
                quotes.append(quote)
        return quotes

    def is_spread(self, numbers: Sequence[int]) -> bool:
        """Whether these passages (ascending) extend over at least half of the text."""
        return bool(numbers) and numbers[-1] - numbers[0] >= len(self) / 2

    @cached_property
    def _folded(self) -> str:
        return " ".join(self.flat).casefold()

    def _draw_quote(self, numbers: Sequence[int], draw: random.Random) -> tuple[int, str] | None:
        """A sentence of the first of these passages that has a quotable one."""
        for number in numbers:
            sentences = [sentence for run in self.runs(number) for sentence in run]
            for sentence in draw.sample(sentences, len(sentences)):
                if self.contains_once(sentence):
                    return number, sentence
        return None


def flatten(text: str) -> str:
    """The text on one line, with single spaces, in Unicode's composed form."""
    return " ".join(unicodedata.normalize("NFC", text).split())
