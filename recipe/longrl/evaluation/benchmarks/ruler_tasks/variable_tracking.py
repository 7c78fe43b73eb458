"""vt: follow a chain of variable assignments hidden in noise; a solved example is shown before.

Templates are the released ones (nvidia-long-context-eval 26.3, data/synthetic/constants.py, Apache-2.0; "assgined" is
in the original).
"""

from __future__ import annotations

import itertools
import random
import string

import numpy as np

from recipe.longrl.evaluation.benchmarks.ruler_tasks.drafts import Draft, Page, Sampler, pieces_of
from recipe.longrl.evaluation.benchmarks.ruler_tasks.needles import NOISE
from recipe.longrl.evaluation.benchmarks.ruler_tasks.sizing import official_size, samples_that_fit
from recipe.longrl.evaluation.benchmarks.ruler_tasks.token_sums import TokenSums

MAX_TOKENS = 30
HOPS = 4
STEP = 10
EXAMPLE_LENGTH = 500
EXAMPLE_STEP = 5

_BEGIN = "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n"
_END = "\nQuestion: Find all variables that are assigned the value {value} in the text above."
_PREFIX = (
    f" Answer: According to the chain(s) of variable assignment in the text above, {HOPS + 1} variables are assgined "
    "the value {value}, they are: "
)


def make_official(length: int, seed: int, sums: TokenSums) -> OfficialTracking:
    """The released generator, after it has drawn its example of at most 500 tokens."""
    generator, numbers = random.Random(seed), np.random.RandomState(seed)
    example_sampler = _Tracking(generator, numbers, EXAMPLE_STEP, letters=3)
    limit = EXAMPLE_LENGTH - MAX_TOKENS
    size = official_size(example_sampler, limit, sums)
    ((draft, page, _),) = samples_that_fit(example_sampler, size, limit, 1, sums)
    example = f"{page.text}{draft.answer_prefix} {' '.join(draft.gold)}\n\n"
    return OfficialTracking(generator, numbers, example, sums.count_text(example))


class _Tracking(Sampler):
    """Chains in noise, drawn from one stream of random numbers."""

    shrinks = False

    def __init__(self, generator: random.Random, numbers: np.random.RandomState, step: int, letters: int):
        self.step, self._random, self._numbers, self._letters = step, generator, numbers, letters

    def draw(self, size: int, index: int) -> Draft:
        names = draw_names(self._random, HOPS + 1, self._letters)[: HOPS + 1]
        value = int(self._numbers.randint(10000, 99999))
        noise = [f"{NOISE}\n"] * size
        if size <= len(names):
            # Too few lines for the chain: they are split at full stops, each end of a line a part of its own.
            noise = [f"{part}." if part.strip() else part for line in noise for part in line.split(".")]
        places = sorted(self._random.sample(range(len(noise)), len(names)))
        return tracking_draft(names, value, noise, places)


class OfficialTracking(_Tracking):
    """Draws as the released generator does; the example's names are drawn anew for each sample."""

    def __init__(self, generator: random.Random, numbers: np.random.RandomState, example: str, example_tokens: int):
        super().__init__(generator, numbers, STEP, letters=5)
        self._example, self._example_tokens = example, example_tokens

    def draw(self, size: int, index: int) -> Draft:
        draft = super().draw(size, index)
        return Draft(
            draft.gold,
            draft.answer_prefix,
            lambda: draft.render()._replace(before_tokens=self._example_tokens),
            probe=draft.probe,
        )

    def accept(self, page: Page) -> Page:
        marker = "they are: "
        example = self._example
        for name in example.split(marker, 1)[1].split():
            example = example.replace(name, "".join(self._random.choices(string.ascii_uppercase, k=len(name))))
        return page._replace(before=f" {example}\n\n")


class RepairedTracking(Sampler):
    """Draws each sample on its own: all names distinct, those of the example too, and the chain anywhere."""

    step = 1

    def __init__(self, name: str):
        self._name = name

    def draw(self, size: int, index: int) -> Draft:
        generator = random.Random(f"{self._name}/{index}")
        names = distinct_names(generator, HOPS + 1, 5)
        # The example has the value 12345.
        value = generator.randint(20000, 99999)
        places = sorted(generator.choices(range(size + 1), k=HOPS + 1))
        draft = tracking_draft(names, value, [f"{NOISE}\n"] * size, places)
        example = solved_example(generator)

        def render() -> Page:
            first, *others = draft.render().pieces
            return Page([example + first, *others], sum(places) / (len(places) * max(size, 1)))

        return Draft(draft.gold, draft.answer_prefix, render)


def solved_example(generator: random.Random) -> str:
    """A short question with its answer, about names of three letters and the value 12345."""
    names = distinct_names(generator, HOPS + 1, 3)
    draft = tracking_draft(names, 12345, [f"{NOISE}\n"] * 6, range(1, HOPS + 2))
    return f"{draft.render().text}{draft.answer_prefix}{' '.join(names)}\n\n"


def draw_names(generator: random.Random, count: int, letters: int) -> list[str]:
    """Random names, more than `count` where some are equal, as in the released generator."""
    names = ["".join(generator.choices(string.ascii_uppercase, k=letters)) for _ in range(count)]
    while len(set(names)) < count:
        names.append("".join(generator.choices(string.ascii_uppercase, k=letters)))
    return names


def distinct_names(generator: random.Random, count: int, letters: int) -> list[str]:
    """Random names, each one once."""
    return list(dict.fromkeys(draw_names(generator, count, letters)))


def chain_lines(names: list[str], value: int) -> list[str]:
    """The assignments; each but the first ends with a space, as in the released prompts."""
    return [f"VAR {names[0]} = {value}", *(f"VAR {new} = VAR {old} " for old, new in itertools.pairwise(names))]


def tracking_draft(names: list[str], value: int, noise: list[str], places: list[int] | range) -> Draft:
    """The question for a chain whose lines are inserted before the noise lines at `places`, which rise."""

    def render() -> Page:
        lines = list(noise)
        for number, (place, line) in enumerate(zip(places, chain_lines(names, value), strict=True)):
            lines.insert(place + number, line)
        pieces = pieces_of(_BEGIN, _joined_ends(lines), " ", _END.format(value=value))
        return Page(pieces, sum(places) / (len(places) * max(len(noise) - 1, 1)))

    return Draft(names, _PREFIX.format(value=value), render, probe=f" {names}")


def _joined_ends(lines: list[str]) -> list[str]:
    """The lines, an end of a line joined to the full stop before it: released prompts have no space between them."""
    joined: list[str] = []
    for line in lines:
        if line == "\n" and joined and joined[-1].endswith("."):
            joined[-1] += line
        else:
            joined.append(line)
    return joined
