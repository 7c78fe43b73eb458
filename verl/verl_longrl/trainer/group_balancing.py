"""Assign rows to ranks so that responses to one prompt stay together and all ranks get equal work.

verl balances single rows, which spreads a prompt's responses over all ranks, and each of them computes the prompt. Here
whole groups go to the rank and mini-batch with the least work so far. Every rank and mini-batch gets equally many rows,
so a group is cut only where none of them has room for all of it. A mini-batch then consists of whole groups, as its
size (in prompts) promises; verl's mixes rows of all prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from verl_longrl.engine.packing import PromptGroup, group_by_prompt
from verl_longrl.trainer.rollout_key import RolloutKey

if TYPE_CHECKING:
    from transfer_queue import KVBatchMeta


class RolloutRow(NamedTuple):
    """A rollout: the name of its prompt, tokens of prompt and response, and whether it only fills up the batch."""

    prompt: str
    prompt_tokens: int
    response_tokens: int
    padding: bool = False


@dataclass
class _Bin:
    """The rows that one rank computes in one mini-batch. work: pairs of tokens that attend to each other."""

    room: int
    groups: list[PromptGroup] = field(default_factory=list)
    work: float = 0.0

    def add(self, group: PromptGroup) -> None:
        self.groups.append(group)
        self.room -= len(group.rows)
        self.work += group.attention_pairs


def keep_groups_together(batch: KVBatchMeta, ranks: int, mini_batch_rows: int) -> dict[str, Any]:
    """Reorder a batch that verl has padded and balanced. Returns verl's metrics of the balance between ranks.

    Where mini-batches do not divide the batch, verl makes one mini-batch of it.
    """
    from verl.utils.seqlen_balancing import log_seqlen_unbalance

    mini_batches, rest = divmod(len(batch), mini_batch_rows)
    order = balanced_order(rollout_rows(batch.keys, batch.tags), ranks, 1 if rest else max(mini_batches, 1))
    # The metrics compare ranks over the whole batch, whatever the number of mini-batches.
    size, lengths = len(order) // ranks, [tag["seq_len"] for tag in batch.tags]
    rows_of_rank = [order[rank * size : (rank + 1) * size] for rank in range(ranks)]
    batch.reorder(order)
    return log_seqlen_unbalance(lengths, rows_of_rank, "global_seqlen")


def rollout_rows(keys: Sequence[str], tags: Sequence[dict[str, Any]]) -> list[RolloutRow]:
    """The rows of verl's batch.

    An agent loop may give several outputs, each with a prompt of its own. Outputs of a uid whose prompts are equally
    long count as having the same prompt. Where that is wrong it costs time and nothing else: the engine compares
    tokens.
    """
    rows = []
    for key, tag in zip(keys, tags, strict=True):
        prompt = f"{RolloutKey.parse(key).uid} {tag['prompt_len']}"
        rows.append(RolloutRow(prompt, tag["prompt_len"], tag["response_len"], tag.get("is_padding", False)))
    return rows


def balanced_order(rows: Sequence[RolloutRow], ranks: int, mini_batches: int = 1) -> list[int]:
    """The order of rows in which verl, which deals out equal contiguous parts, gives each rank, and within it each
    mini-batch, the rows chosen here. Padding rows come last in their mini-batch.

    Example: 2 ranks, 1 mini-batch, prompts a, b, c with 4, 2, 2 rollouts: rank 0 gets a's rows, rank 1 those of b and
    c.

    Raises ValueError when ranks times mini-batches does not divide the rows.
    """
    size, left = divmod(len(rows), ranks * mini_batches)
    if left:
        raise ValueError(f"{len(rows)} rows do not divide into {ranks} ranks x {mini_batches} mini-batches")
    # Rank 0 has the first `mini_batches` bins, rank 1 the next ones: verl deals out contiguous parts.
    bins = [_Bin(size) for _ in range(ranks * mini_batches)]
    by_prompt = group_by_prompt(
        [row.prompt for row in rows], [row.prompt_tokens for row in rows], [row.response_tokens for row in rows]
    )
    # The largest first (longest processing time first), each to the bin with the least work that has room for it.
    for group in sorted(by_prompt, key=lambda group: -group.attention_pairs):
        rest: PromptGroup | None = group
        while rest is not None:
            with_room = [each for each in bins if each.room >= len(rest.rows)]
            # No room for all of it anywhere: cut the group, and put as many rows as fit into the emptiest bin.
            emptiest = max(bins, key=lambda each: each.room)
            target = min(with_room, key=lambda each: each.work) if with_room else emptiest
            fitting, places = min(target.room, len(rest.rows)), range(len(rest.rows))
            # At least one row fits: the rooms of all bins together equal the rows that are not placed yet.
            target.add(rest.subset(places[:fitting]))
            rest = rest.subset(places[fitting:]) if fitting < len(places) else None
    order: list[int] = []
    for each in bins:
        # False sorts before True, and sorting is stable, so only padding rows move.
        numbers = [number for group in each.groups for number in group.rows]
        order += sorted(numbers, key=lambda number: rows[number].padding)
    return order
