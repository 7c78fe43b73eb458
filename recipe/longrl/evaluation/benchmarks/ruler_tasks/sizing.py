"""Find how many words, lines or documents fill a prompt of a given length, and draw samples that fit.

`official_size` follows the released generator step by step, so that the same random numbers reach the same samples: it
raises the size until the first trial exceeds the limit. Trials far below the limit are not counted. `largest_size`
bisects, for samplers whose samples do not depend on each other.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator

from recipe.longrl.evaluation.benchmarks.ruler_tasks.drafts import Draft, Page, Sampler
from recipe.longrl.evaluation.benchmarks.ruler_tasks.token_sums import TokenSums

CLEARLY_BELOW = 0.75
"""A trial predicted to have at most this share of the limit is not counted; lengths grow in proportion to the size."""
MOST_DRAWS = 1000


class TooShortError(ValueError):
    """The length has no room for the smallest prompt of a task."""


class _TrialLengths:
    """Prompt lengths of trials of growing size, predicted while they are far below the limit."""

    def __init__(self, limit: int, count: Callable[[Draft], int]):
        self._limit, self._count = limit, count
        self._size, self._length = 0, 0

    def length(self, size: int, draft: Draft) -> int:
        if size < 2 * self._size:
            predicted = self._length * size // self._size
            if predicted < CLEARLY_BELOW * self._limit:
                return predicted
        self._size, self._length = size, self._count(draft)
        return self._length


def official_size(sampler: Sampler, limit: int, sums: TokenSums) -> int:
    """The released generator's size for prompts of at most `limit` tokens with their answer prefix.

    A trial of exactly `limit` tokens ends the search one step too high, as it does there.
    """
    trials = _TrialLengths(limit, lambda draft: sums.count_page(draft.render(), draft.answer_prefix + draft.probe))
    size, length = sampler.step, 0
    while length < limit:
        length = trials.length(size, sampler.draw(size, 0))
        if length > limit:
            return size - sampler.step
        size += sampler.step
    return size


def largest_size(sampler: Sampler, limit: int, sums: TokenSums) -> int:
    """The largest multiple of the step whose sample 0 has at most `limit` tokens, for samplers that draw the same
    sample again when asked again."""

    def exceeds(steps: int) -> bool:
        draft = sampler.draw(steps * sampler.step, 0)
        return sums.count_page(draft.render(), draft.answer_prefix) > limit

    too_many = 1
    while not exceeds(too_many):
        too_many *= 2
    return (bisect.bisect_left(range(too_many), True, lo=too_many // 2 or 1, key=exceeds) - 1) * sampler.step


def samples_that_fit(
    sampler: Sampler, size: int, limit: int, samples: int, sums: TokenSums
) -> Iterator[tuple[Draft, Page, int]]:
    """Samples 0, 1, ... as (draft, page, tokens with the answer prefix), each at most `limit` tokens long.

    Raises:
        TooShortError: not even the smallest prompt fits, where the released code never ends.
    """
    for index in range(samples):
        for attempt in range(MOST_DRAWS if size >= sampler.step else 0):
            reduced = max(size - attempt * sampler.step, sampler.step)
            draft = sampler.draw(reduced if sampler.shrinks else size, index)
            page = draft.render()
            tokens = sums.count_page(page, draft.answer_prefix)
            if tokens <= limit:
                yield draft, sampler.accept(page), tokens
                break
        else:
            raise TooShortError(f"sample {index}: its smallest prompt has more than {limit} tokens")
