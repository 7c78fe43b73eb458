"""fwe: name the three most frequent words of a coded text whose frequencies follow a zeta distribution.

Templates are the released ones (nvidia-long-context-eval 26.3, data/synthetic/constants.py, Apache-2.0).
"""

from __future__ import annotations

import itertools
import random
import string
from collections.abc import Iterator

import numpy as np
from scipy.special import zeta

from recipe.longrl.evaluation.benchmarks.ruler_tasks.drafts import Draft, Page, Sampler, pieces_of
from recipe.longrl.evaluation.benchmarks.ruler_tasks.sizing import TooShortError
from recipe.longrl.evaluation.benchmarks.ruler_tasks.token_sums import TokenSums

MAX_TOKENS = 50
ALPHA = 2.0
LETTERS = 6
ASKED = 3
DOTS = "..."
"""Replaces the most frequent word, as noise."""

_BEGIN = (
    "Read the following coded text and track the frequency of each coded word. Find the three most frequently appeared "
    "coded words. "
)
_END = (
    "\nQuestion: Do not provide any explanation. Please ignore the dots '....'. What are the three most frequently "
    "appeared words in the above coded text?"
)
PREFIX = " Answer: According to the coded text above, the three most frequently appeared words are:"


def official_frequent_words(length: int, samples: int, seed: int, sums: TokenSums) -> Iterator[tuple[Draft, Page, int]]:
    """The released generator's samples. A text may have `length` tokens without its answer, so prompt and answer
    together may exceed the length; every sample is shuffled by the same permutation.

    Raises:
        TooShortError: no text fits.
    """
    generator, step = random.Random(seed), length // 32

    def sized(vocabulary: list[str], size: int) -> tuple[Draft, Page, int]:
        draft = frequent_words_draft(vocabulary, size, random.Random(seed))
        page = draft.render()
        return draft, page, sums.count_page(page, draft.answer_prefix)

    vocabulary = _official_vocabulary(generator, length, seed)
    size = length // LETTERS
    while sized(vocabulary, size)[2] < length:
        size += step
    largest = size - step
    for _ in range(samples):
        vocabulary = _official_vocabulary(generator, length, seed)
        sizes = itertools.takewhile(lambda size: size > 0, itertools.count(largest, -step))
        attempts = (sized(vocabulary, size) for size in sizes)
        sample = next((attempt for attempt in attempts if attempt[2] <= length), None)
        if sample is None:
            raise TooShortError(f"no text has at most {length} tokens")
        yield sample


class RepairedFrequentWords(Sampler):
    """Draws each sample on its own, in an order of its own, with room for the answer."""

    step = 16

    def __init__(self, length: int, name: str):
        self._words, self._name = length // 50, name

    def draw(self, size: int, index: int) -> Draft:
        generator = random.Random(f"{self._name}/{index}")
        vocabulary = draw_vocabulary(generator, self._words)
        generator.shuffle(vocabulary)
        return frequent_words_draft([DOTS, *vocabulary[1:]], size, generator)


def draw_vocabulary(generator: random.Random, words: int) -> list[str]:
    """Distinct random words, sorted."""
    drawn = ["".join(generator.choices(string.ascii_lowercase, k=LETTERS)) for _ in range(words)]
    while len(set(drawn)) < words:
        drawn.append("".join(generator.choices(string.ascii_lowercase, k=LETTERS)))
    return sorted(set(drawn))


def _official_vocabulary(generator: random.Random, length: int, seed: int) -> list[str]:
    vocabulary = draw_vocabulary(generator, length // 50)
    random.Random(seed).shuffle(vocabulary)
    return [DOTS, *vocabulary[1:]]


def frequent_words_draft(vocabulary: list[str], size: int, order: random.Random) -> Draft:
    """A text of nearly `size` words, of which rank k appears floor(size / (k^2 zeta(2))) times."""
    ranks = np.arange(1, len(vocabulary) + 1)
    times = (size * (ranks**-ALPHA) / zeta(ALPHA)).astype(int)
    shown = [word for word, count in zip(vocabulary, times, strict=True) for _ in range(count)]
    order.shuffle(shown)
    return Draft(vocabulary[1 : 1 + ASKED], PREFIX, lambda: Page(pieces_of(_BEGIN, shown, " ", _END)))
