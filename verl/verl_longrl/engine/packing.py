"""Which rows share a prompt, and which of them are computed together.

A micro-batch is a list of groups, a group rows with one prompt. Its cost is what its packed row holds, P + sum R tokens
for each group, and none costs more than the budget: a group that does is cut, and its prompt computed once for each
piece.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import NamedTuple


class OverBudget(ValueError):
    """A row alone has more tokens than a micro-batch may have."""


class Rows(NamedTuple):
    """Rows with one prompt: its tokens, their numbers in the batch, and the tokens of their responses."""

    prompt: int
    rows: tuple[int, ...]
    responses: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Tokens in the packed row."""
        return self.prompt + sum(self.responses)

    @property
    def unshared(self) -> int:
        """Tokens of the same rows one by one."""
        return self.prompt * len(self.rows) + sum(self.responses)

    @property
    def pairs(self) -> float:
        """Pairs of tokens of which one attends to the other: what long prompts cost."""
        return self.prompt**2 / 2 + sum(length * (self.prompt + length / 2) for length in self.responses)

    def part(self, which: Sequence[int]) -> Rows:
        """Some of the rows, by their place here."""
        return Rows(self.prompt, tuple(self.rows[i] for i in which), tuple(self.responses[i] for i in which))


MicroBatch = list[Rows]


def groups(prompts: Sequence[Hashable], prompt_lengths: Sequence[int], response_lengths: Sequence[int]) -> list[Rows]:
    """The rows by prompt, in the order in which prompts first come. prompts: equal where the tokens are."""
    by_prompt: dict[Hashable, list[int]] = defaultdict(list)
    for row, prompt in enumerate(prompts):
        by_prompt[prompt].append(row)
    return [
        Rows(prompt_lengths[rows[0]], tuple(rows), tuple(response_lengths[row] for row in rows))
        for rows in by_prompt.values()
    ]


def pack(found: Sequence[Rows], budget: int, at_least: int = 1) -> list[MicroBatch]:
    """Micro-batches of at most `budget` tokens, the most expensive first: as few as first-fit decreasing finds, but
    `at_least` so many.

    Raises:
        OverBudget: a row alone is over the budget.
        ValueError: there are fewer rows than micro-batches wanted.
    """
    batches: list[MicroBatch] = []
    for group in sorted((piece for whole in found for piece in cut(whole, budget)), key=lambda group: -group.tokens):
        fitting = (batch for batch in batches if sum(other.tokens for other in batch) + group.tokens <= budget)
        batch = next(fitting, None)
        if batch is None:
            batches.append([group])
        else:
            batch.append(group)
    while len(batches) < at_least:
        _divide(batches)
    return sorted(batches, key=_pairs, reverse=True)


def cut(group: Rows, budget: int) -> list[Rows]:
    """The group in pieces of at most `budget` tokens. Raises OverBudget."""
    pieces: list[list[int]] = []
    room = -1
    for place, length in enumerate(group.responses):
        if group.prompt + length > budget:
            raise OverBudget(
                f"row {group.rows[place]} has {group.prompt} + {length} tokens, more than the {budget} of a "
                "micro-batch; raise the tokens per GPU (ppo_max_token_len_per_gpu, log_prob_max_token_len_per_gpu)"
            )
        if length > room:
            pieces.append([])
            room = budget - group.prompt
        pieces[-1].append(place)
        room -= length
    return [group.part(piece) for piece in pieces]


def _divide(batches: list[MicroBatch]) -> None:
    """Make two of the most expensive micro-batch that has several rows: its groups apart, or its only group in two."""
    batch = max((b for b in batches if sum(len(group.rows) for group in b) > 1), key=_pairs, default=None)
    if batch is None:
        raise ValueError(f"{len(batches)} rows give no more than {len(batches)} micro-batches; use larger batches")
    batches.remove(batch)
    if len(batch) == 1:
        (group,) = batch
        half, places = len(group.rows) // 2, range(len(group.rows))
        batches += [[group.part(places[:half])], [group.part(places[half:])]]
        return
    one: MicroBatch = []
    other: MicroBatch = []
    for group in sorted(batch, key=lambda group: -group.pairs):
        min(one, other, key=_pairs).append(group)
    batches += [one, other]


def _pairs(batch: MicroBatch) -> float:
    return sum(group.pairs for group in batch)
