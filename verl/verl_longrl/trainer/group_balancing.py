"""Which rank computes which rows, so that responses to one prompt stay together and ranks get equal work.

verl balances single rows, which spreads a prompt's responses over all ranks, and each computes the prompt. Here
whole groups go to the rank and mini-batch that has least work so far; every rank and mini-batch gets equally many rows,
so where no place has room for a whole group it is cut. A mini-batch is then made of whole groups, as its size, which is
in prompts, says; verl's mixes rows of all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from verl_longrl.engine.packing import PromptGroup


class Row(NamedTuple):
    """A rollout: its prompt (a name), tokens of prompt and response, and whether it only fills up the batch."""

    prompt: str
    prompt_tokens: int
    response_tokens: int
    padding: bool = False


@dataclass
class _Bin:
    """What a rank computes in a mini-batch."""

    room: int
    groups: list[PromptGroup] = field(default_factory=list)
    work: float = 0.0

    def take(self, group: PromptGroup) -> None:
        self.groups.append(group)
        self.room -= len(group.rows)
        self.work += group.attention_pairs


def rows_of(keys: Sequence[str], tags: Sequence[dict[str, Any]]) -> list[Row]:
    """The rows of verl's batch, by its keys (uid_session_output) and tags. An agent loop may give several outputs,
    each with a prompt of its own: those of a uid that are equally long are taken for one prompt, which costs time where
    it is wrong (the engine compares tokens), and nothing else."""
    return [
        Row(
            f"{key.rsplit('_', 2)[0]} {tag['prompt_len']}",
            tag["prompt_len"],
            tag["response_len"],
            tag.get("is_padding", False),
        )
        for key, tag in zip(keys, tags, strict=True)
    ]


def balanced(rows: Sequence[Row], ranks: int, mini_batches: int = 1) -> list[int]:
    """The order of rows in which verl, which deals out equal contiguous parts, gives each rank its own, and these
    in mini-batches. PromptGroup that fill up come last in theirs.

    Raises ValueError when ranks times mini-batches does not divide the rows.
    """
    size, left = divmod(len(rows), ranks * mini_batches)
    if left:
        raise ValueError(f"{len(rows)} rows do not divide into {ranks} ranks x {mini_batches} mini-batches")
    bins = [_Bin(size) for _ in range(ranks * mini_batches)]
    for group in sorted(_groups(rows), key=lambda group: -group.attention_pairs):
        rest: PromptGroup | None = group
        while rest is not None:
            whole = [each for each in bins if each.room >= len(rest.rows)]
            place = min(whole, key=lambda each: each.work) if whole else max(bins, key=lambda each: each.room)
            fits, places = min(place.room, len(rest.rows)), range(len(rest.rows))
            place.take(rest.subset(places[:fits]))
            rest = rest.subset(places[fits:]) if fits < len(places) else None
    return [row for each in bins for row in sorted(_rows(each), key=lambda row: rows[row].padding)]


def _groups(rows: Sequence[Row]) -> list[PromptGroup]:
    by_prompt: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        by_prompt[row.prompt].append(number)
    return [
        PromptGroup(rows[numbers[0]].prompt_tokens, tuple(numbers), tuple(rows[n].response_tokens for n in numbers))
        for numbers in by_prompt.values()
    ]


def _rows(each: _Bin) -> list[int]:
    return [row for group in each.groups for row in group.rows]
