"""cwe: name the ten words that a numbered list repeats most often; a short solved list is shown before.

Templates are the released ones (nvidia-long-context-eval 26.3, data/synthetic/constants.py, Apache-2.0).
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Sequence
from typing import NamedTuple

from recipe.longrl.evaluation.benchmarks.ruler_tasks import pools
from recipe.longrl.evaluation.benchmarks.ruler_tasks.drafts import Draft, Page, Sampler

MAX_TOKENS = 120
STEP = 10
COMMON = 10
SHORT = 4096

_BEGIN = (
    "Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that "
    "appear most often.\n"
)
_END = "\nQuestion: What are the 10 most common words in the above list?"
PREFIX = " Answer: The top 10 words that appear most often in the list are:"


class Repeats(NamedTuple):
    """Words of the example, and how often common and other words are repeated in the example and in the list."""

    example_words: int
    example: tuple[int, int]
    listed: tuple[int, int]


LONG_LIST = Repeats(40, (10, 3), (30, 3))
SHORT_LIST = Repeats(20, (3, 1), (6, 1))


def repeats_of(length: int) -> Repeats:
    """The released numbers for a length in tokens."""
    return LONG_LIST if length >= SHORT else SHORT_LIST


class OfficialCommonWords(Sampler):
    """Draws as the released generator does: every sample's list is shuffled by the same permutation.

    The package has 8,166 words. A list that needs more, from about 128K tokens, is drawn from these and
    `pools.made_words`.
    """

    step = STEP

    def __init__(self, length: int, seed: int):
        self._repeats, self._seed, self._random = repeats_of(length), seed, random.Random(seed)
        self._words = list(pools.list_words())
        random.Random(seed).shuffle(self._words)

    def draw(self, size: int, index: int) -> Draft:
        if size > len(self._words):
            self._words += pools.made_words()
        example = self._random.sample(self._words, self._repeats.example_words)
        listed = self._random.sample(self._words, size)
        return common_words_draft(
            self._repeats, example, listed, random.Random(self._seed), random.Random(self._seed), _made(listed)
        )


class RepairedCommonWords(Sampler):
    """Draws each sample on its own: an order of its own, and no common word is part of another word of the list, so
    that naming the other word cannot count."""

    step = STEP

    def __init__(self, length: int, name: str):
        self._repeats, self._name = repeats_of(length), name

    def draw(self, size: int, index: int) -> Draft:
        generator = random.Random(f"{self._name}/{index}")
        words: Sequence[str] = pools.list_words()
        example = generator.sample(words, self._repeats.example_words)
        words = [word for word in words if word not in set(example)]
        if size > len(words):
            words = [*words, *pools.made_words()]
        listed = common_first(generator.sample(words, size))
        return common_words_draft(self._repeats, example, listed, generator, generator, _made(listed))


def common_first(words: list[str]) -> list[str]:
    """The words with ten in front that are part of no other."""
    lowered = "\n".join(words).lower()
    alone = (word for word in words if lowered.count(word.lower()) == 1)
    common = list(itertools.islice(alone, COMMON))
    return common + [word for word in words if word not in common]


def common_words_draft(
    repeats: Repeats,
    example: list[str],
    listed: list[str],
    example_order: random.Random,
    order: random.Random,
    meta: dict[str, bool],
) -> Draft:
    """The question about `listed`, whose first ten words are the common ones, as those of `example` are."""
    shown_example = _repeated(example, repeats.example, example_order)
    # The list has a state of its own, because it is written only when its length is needed.
    state = order.getstate()

    def render() -> Page:
        generator = random.Random()
        generator.setstate(state)
        solution = " ".join(_numbered(example[:COMMON]))
        begin = f"{_BEGIN}{' '.join(_numbered(shown_example))}{_END}{PREFIX}{solution}\n{_BEGIN}"
        words = _repeated([f" {word}" for word in listed], repeats.listed, generator)
        pairs = zip(_numbers(len(words)), words, strict=True)
        pieces = [piece for pair in pairs for piece in pair]
        pieces[0] = f"{begin}1."
        pieces[-1] += _END
        return Page(pieces, None, meta)

    probe = " " + " ".join(_numbered(listed[:COMMON]))
    return Draft(listed[:COMMON], PREFIX, render, probe=probe)


def _repeated(words: list[str], times: tuple[int, int], order: random.Random) -> list[str]:
    shown = words[:COMMON] * times[0] + words[COMMON:] * times[1]
    order.shuffle(shown)
    return shown


@functools.lru_cache(maxsize=1)
def _all_numbers(power: int) -> list[str]:
    """The pieces of the first 2^power numbers, which all lists share."""
    return [f" {number}." for number in range(1, 2**power + 1)]


def _numbers(count: int) -> list[str]:
    return _all_numbers(count.bit_length())[:count]


def _numbered(words: list[str]) -> list[str]:
    return [f"{number}. {word}" for number, word in enumerate(words, 1)]


def _made(words: list[str]) -> dict[str, bool]:
    """A mark for lists with words that are not real."""
    return {"made_words": True} if len(words) > len(pools.list_words()) else {}
