"""What of a document a prompt shows, and what is known about it. Everything a task asks is computed from this alone, so
that what a prompt does not show is never asked for."""

from __future__ import annotations

import itertools
import random
import unicodedata
from collections.abc import Sequence
from functools import cached_property

from data_gen.multitask.quotable_sentences import sentence_runs
from data_gen.multitask.terms import Term, find_terms, find_years


class VisibleText:
    """Passages of a document, one after another; their numbers are from 1."""

    def __init__(self, passages: Sequence[str]):
        self.passages = list(passages)

    def __len__(self) -> int:
        return len(self.passages)

    @cached_property
    def flat(self) -> list[str]:
        """The passages with each run of white space as one space, in Unicode's composed form."""
        return [flatten(passage) for passage in self.passages]

    @cached_property
    def terms(self) -> list[Term]:
        """The words that may be asked about."""
        return find_terms(self.flat)

    @cached_property
    def years(self) -> dict[int, list[int]]:
        """All years that are mentioned, with the passages that do; none where one cannot be sure of all."""
        return find_years(self.flat)

    def runs(self, number: int) -> list[list[str]]:
        """The sentences of a passage that follow one another (see quotable_sentences.py)."""
        return list(sentence_runs(self.passages[number - 1]))

    def once(self, quote: str) -> bool:
        """Whether the text says this once, whatever is written with capitals."""
        return self._folded.count(flatten(quote).casefold()) == 1

    def quotes(self, count: int, draw: random.Random) -> list[tuple[int, str]]:
        """Up to `count` sentences that stand in the text once, each with its passage's number, in order: one from each
        of as many stretches of the text, so that they lie far apart."""
        bounds = [len(self) * i // count for i in range(count + 1)]
        found = (self._quote(draw.sample(range(a + 1, b + 1), b - a), draw) for a, b in itertools.pairwise(bounds))
        return [quote for quote in found if quote]

    def is_spread(self, numbers: Sequence[int]) -> bool:
        """Whether passages (ascending) lie over at least half of the text."""
        return bool(numbers) and numbers[-1] - numbers[0] >= len(self) / 2

    @cached_property
    def _folded(self) -> str:
        return " ".join(self.flat).casefold()

    def _quote(self, numbers: Sequence[int], draw: random.Random) -> tuple[int, str] | None:
        for number in numbers:
            sentences = [sentence for run in self.runs(number) for sentence in run]
            for sentence in draw.sample(sentences, len(sentences)):
                if self.once(sentence):
                    return number, sentence
        return None


def flatten(text: str) -> str:
    """The text on one line, in Unicode's composed form."""
    return " ".join(unicodedata.normalize("NFC", text).split())
