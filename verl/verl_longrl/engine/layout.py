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


class Segments(NamedTuple):
    """Lengths of queries and of the keys they look at, segment by segment."""

    queries: tuple[int, ...]
    keys: tuple[int, ...]


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
        return Segments(lengths, lengths)

    @cached_property
    def shared(self) -> Segments:
        """All responses of a group, together, with their prompt."""
        return Segments(tuple(sum(group.responses) for group in self.groups), tuple(g.prompt for g in self.groups))

    @cached_property
    def tokens(self) -> int:
        """T."""
        return sum(self.own.queries)

    @cached_property
    def continued(self) -> Segments:
        """Every response, with its prompt and itself."""
        pairs = [(length, group.prompt + length) for group in self.groups for length in group.responses]
        queries, keys = zip(*pairs, strict=True)
        return Segments(queries, keys)

    @cached_property
    def spans(self) -> tuple[tuple[slice, slice], ...]:
        """Of every response: where its prompt and where its own tokens are."""
        found, end = [], 0
        for prompt, responses in self.groups:
            shared = slice(end, end + prompt)
            end += prompt
            for length in responses:
                found.append((shared, slice(end, end + length)))
                end += length
        return tuple(found)

    @cached_property
    def prompt_ends(self) -> torch.Tensor:
        """(groups + 1,) int32: where prompts end that stand one after another, from 0."""
        return self._ends([group.prompt for group in self.groups])

    @cached_property
    def continued_ends(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The same of responses that stand one after another, and of their keys."""
        return self._ends(self.continued.queries), self._ends(self.continued.keys)

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
    def prompts(self) -> torch.Tensor:
        """(M,): where prompt tokens are, M = sum P."""
        return (~self.is_response).nonzero().squeeze(1)

    @cached_property
    def prompts_first(self) -> torch.Tensor:
        """(T,): where each token is when all prompts come before all responses."""
        return torch.cat([self.prompts, self.responses]).argsort()

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

    def _ends(self, lengths: Sequence[int]) -> torch.Tensor:
        return torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=self.device)

    def _repeat(self, values: Sequence[int | bool], lengths: Sequence[int]) -> torch.Tensor:
        return torch.tensor(values).repeat_interleave(torch.tensor(lengths)).to(self.device)
