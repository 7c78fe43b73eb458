"""Group rows by their prompt, and pack groups into micro-batches.

A micro-batch is a list of groups, and a group is a set of rows with one prompt. Its cost is the length of its packed
row (layout.py), P + sum R tokens for each group, which must not exceed the budget. A group that costs more is split,
and its prompt is computed once for each piece.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import NamedTuple


class OverBudget(ValueError):
    """A single row has more tokens than a micro-batch may have."""


class PromptGroup(NamedTuple):
    """Rows of a batch that have the same prompt.

    prompt: tokens of the prompt. rows: indices of the rows in the batch. responses: tokens of the response of each.
    """

    prompt: int
    rows: tuple[int, ...]
    responses: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Tokens in the packed row, where the prompt is shared."""
        return self.prompt + sum(self.responses)

    @property
    def unshared_tokens(self) -> int:
        """Tokens of the same rows as separate sequences."""
        return self.prompt * len(self.rows) + sum(self.responses)

    @property
    def attention_pairs(self) -> float:
        """Pairs of a query and a key that it attends to: the cost of long prompts, which is quadratic."""
        # Token t of the prompt attends to about t tokens, on average to half of the prompt. A token of a response
        # attends to the whole prompt, and on average to half of its response.
        return self.prompt**2 / 2 + sum(length * (self.prompt + length / 2) for length in self.responses)

    def subset(self, indices: Sequence[int]) -> PromptGroup:
        """A group of some of the rows. indices: into `rows`."""
        return PromptGroup(self.prompt, tuple(self.rows[i] for i in indices), tuple(self.responses[i] for i in indices))


MicroBatch = list[PromptGroup]


def group_by_prompt(
    prompts: Sequence[Hashable], prompt_lengths: Sequence[int], response_lengths: Sequence[int]
) -> list[PromptGroup]:
    """Group the rows by prompt, in the order in which prompts first occur.

    prompts: one for each row, equal if and only if the prompts' tokens are equal. Lengths are in tokens.
    """
    # A dictionary keeps its keys in the order in which they were first inserted.
    by_prompt: dict[Hashable, list[int]] = defaultdict(list)
    for row, prompt in enumerate(prompts):
        by_prompt[prompt].append(row)
    return [
        PromptGroup(prompt_lengths[rows[0]], tuple(rows), tuple(response_lengths[row] for row in rows))
        for rows in by_prompt.values()
    ]


def pack_groups(groups: Sequence[PromptGroup], budget: int, at_least: int = 1) -> list[MicroBatch]:
    """Pack groups into as few micro-batches as first-fit decreasing finds, the most expensive first.

    Args:
        budget: tokens of a micro-batch.
        at_least: micro-batches to make. Ranks must agree on a number, because their collectives must meet.

    Raises:
        OverBudget: a single row is over the budget.
        ValueError: there are fewer rows than micro-batches to make.
    """
    pieces = [piece for group in groups for piece in split_group(group, budget)]
    batches: list[MicroBatch] = []
    for piece in sorted(pieces, key=lambda piece: -piece.tokens):
        # The first micro-batch with room gets the piece; a piece that fits nowhere opens a new one.
        for batch in batches:
            if sum(other.tokens for other in batch) + piece.tokens <= budget:
                batch.append(piece)
                break
        else:
            batches.append([piece])
    # A rank with fewer micro-batches than the others would leave them waiting in a collective.
    while len(batches) < at_least:
        _split_most_expensive(batches)
    return sorted(batches, key=_attention_pairs, reverse=True)


def split_group(group: PromptGroup, budget: int) -> list[PromptGroup]:
    """Split a group into pieces of at most `budget` tokens, each with the whole prompt and consecutive responses.

    A prompt of 100 tokens with responses of 30, 20 and 40 tokens and a budget of 150 gives pieces of 100 + 30 + 20 and
    100 + 40 tokens. Raises OverBudget.
    """
    pieces: list[list[int]] = []
    # No piece is open, so the first response opens one.
    room = -1
    for index, length in enumerate(group.responses):
        if group.prompt + length > budget:
            raise OverBudget(
                f"row {group.rows[index]} has {group.prompt} + {length} tokens, more than the {budget} of a "
                "micro-batch. Fix: raise the tokens per GPU (ppo_max_token_len_per_gpu, log_prob_max_token_len_per_gpu)"
            )
        if length > room:
            pieces.append([])
            room = budget - group.prompt
        pieces[-1].append(index)
        room -= length
    return [group.subset(piece) for piece in pieces]


def _split_most_expensive(batches: list[MicroBatch]) -> None:
    """Split the most expensive micro-batch that has several rows, in place.

    Its groups are distributed over two micro-batches; a single group is halved, which computes its prompt twice.
    """
    # A single row cannot be split over two micro-batches.
    divisible = [batch for batch in batches if sum(len(group.rows) for group in batch) > 1]
    if not divisible:
        raise ValueError(f"{len(batches)} rows cannot fill more than {len(batches)} micro-batches; use larger batches")
    batch = max(divisible, key=_attention_pairs)
    batches.remove(batch)
    if len(batch) == 1:
        (group,) = batch
        half, indices = len(group.rows) // 2, range(len(group.rows))
        batches += [[group.subset(indices[:half])], [group.subset(indices[half:])]]
        return
    # The largest first, each to the half with the fewer pairs, so that the halves cost about the same.
    one: MicroBatch = []
    other: MicroBatch = []
    for group in sorted(batch, key=lambda group: -group.attention_pairs):
        min(one, other, key=_attention_pairs).append(group)
    batches += [one, other]


def _attention_pairs(batch: MicroBatch) -> float:
    return sum(group.attention_pairs for group in batch)
