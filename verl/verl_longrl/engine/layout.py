"""Where the tokens of several groups lie in one packed row, each prompt once before all its responses.

    [prompt | response 1 | response 2 | ... ] [prompt | response 1 | ... ] ...

Every response continues its prompt: its positions go on where the prompt's end, and what predicts its first token is
the prompt's last one. So a row of T = sum over groups (P + sum R) tokens stands for the sum over responses (P + R)
tokens of plain sequences. Lengths are in tokens, indices are into the packed row.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import torch


class Group(NamedTuple):
    """Lengths of a prompt and of its responses, each at least 1."""

    prompt: int
    responses: tuple[int, ...]


class Segments:
    """Lengths of queries and of the keys they look at, segment by segment."""

    def __init__(self, queries: Sequence[int], keys: Sequence[int], device: torch.device):
        self.queries, self.keys, self.device = tuple(queries), tuple(keys), device

    @cached_property
    def ends(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Two of (segments + 1,) int32, on the device: where segments end, from 0, among queries and among keys."""
        lengths = (self.queries, self.keys)
        queries, keys = (
            torch.tensor([0, *itertools.accumulate(each)], dtype=torch.int32, device=self.device) for each in lengths
        )
        return queries, keys

    @property
    def longest(self) -> tuple[int, int]:
        """Most queries, and most keys, of one segment."""
        return max(self.queries), max(self.keys)


class Layout:
    """The packed row of these groups, in this order.

    It is a plain class and no dataclass: FSDP rebuilds dataclasses among a module's arguments.
    """

    def __init__(self, groups: Sequence[Group], device: torch.device | str = "cpu"):
        if not groups or any(not group.responses or min(group.prompt, *group.responses) < 1 for group in groups):
            raise ValueError(f"groups = {groups!r}; expected some, each a prompt and responses of 1 token or more")
        self.groups, self.device = tuple(groups), torch.device(device)

    @cached_property
    def own(self) -> Segments:
        """Every prompt and every response, in the order of the row, with itself."""
        lengths = tuple(length for prompt, responses in self.groups for length in (prompt, *responses))
        return Segments(lengths, lengths, self.device)

    @cached_property
    def shared(self) -> Segments:
        """All responses of a group, together, with their prompt."""
        return Segments([sum(g.responses) for g in self.groups], [g.prompt for g in self.groups], self.device)

    @cached_property
    def tokens(self) -> int:
        """T."""
        return sum(self.own.queries)

    @cached_property
    def looked_at(self) -> tuple[tuple[slice, ...], ...]:
        """Of every prompt and response, in the order of the row: where the tokens are that it attends to, its own
        last."""
        found: list[tuple[slice, ...]] = []
        for (shared, _), (_, responses) in zip(self.shared_places, self.groups, strict=True):
            found.append((shared,))
            end = shared.stop
            for length in responses:
                found.append((shared, slice(end, end + length)))
                end += length
        return tuple(found)

    @cached_property
    def shared_places(self) -> tuple[tuple[slice, slice], ...]:
        """Of every group: where its prompt and where all its responses are."""
        found, end = [], 0
        for prompt, responses in self.groups:
            start, end = end, end + prompt + sum(responses)
            found.append((slice(start, start + prompt), slice(start + prompt, end)))
        return tuple(found)

    @cached_property
    def is_response(self) -> torch.Tensor:
        """(T,) bool."""
        kinds = [kind for _, responses in self.groups for kind in (False, *(True for _ in responses))]
        return self._repeat(kinds, self.own.queries)

    @cached_property
    def responses(self) -> torch.Tensor:
        """(N,): where response tokens are, N = sum R."""
        return self.is_response.nonzero().squeeze(1)

    @cached_property
    def position_ids(self) -> torch.Tensor:
        """(T,): from 0 in a prompt, and from P in each of its responses."""
        starts = [start for prompt, responses in self.groups for start in (0, *(prompt for _ in responses))]
        return self._within + self._repeat(starts, self.own.queries)

    @cached_property
    def predictors(self) -> torch.Tensor:
        """(N,): where the logits are that predict the response tokens: one before, or for a first token the prompt's
        last one."""
        ends, end = [], 0
        for prompt, responses in self.groups:
            ends += [end + prompt - 1] * (1 + len(responses))
            end += prompt + sum(responses)
        first = self._within == 0
        before = torch.arange(len(first), device=self.device) - 1
        return torch.where(first, self._repeat(ends, self.own.queries), before)[self.responses]

    @cached_property
    def _within(self) -> torch.Tensor:
        """(T,): a token's place in its prompt or response."""
        return torch.cat([torch.arange(length) for length in self.own.queries]).to(self.device)

    def _repeat(self, values: Sequence[int | bool], lengths: Sequence[int]) -> torch.Tensor:
        return torch.tensor(values).repeat_interleave(torch.tensor(lengths)).to(self.device)
