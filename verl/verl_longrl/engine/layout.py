"""Positions of the tokens of several groups in one packed row: each prompt once, before all its responses.

    [prompt | response 1 | response 2 | ... ] [prompt | response 1 | ... ] ...

Every response continues its prompt: its position ids start where the prompt's end, and its first token is predicted by
the prompt's last one. So a row of T = sum over groups (P + sum R) tokens replaces plain sequences of
sum over responses (P + R) tokens. Lengths are in tokens, indices refer to the packed row.

Two groups, A with a prompt of 3 tokens and responses of 2 and 1, B with a prompt of 2 and one response of 1 token:

    index        0   1   2   3   4   5   6   7   8
    token        A   A   A   a1  a1  a2  B   B   b1      capitals: prompts; small: responses
    position id  0   1   2   3   4   3   0   1   2
    predictor                2   3   2           7       of each response token

>>> layout = Layout([Group(3, (2, 1)), Group(2, (1,))])
>>> layout.tokens, layout.position_ids.tolist()
(9, [0, 1, 2, 3, 4, 3, 0, 1, 2])
>>> layout.response_indices.tolist(), layout.predictor_indices.tolist()
([3, 4, 5, 8], [2, 3, 2, 7])

Attention is computed in two parts: five segments with themselves (causal), and the responses of each group with its
prompt (all of it).

>>> layout.self_segments.queries
(3, 2, 1, 2, 1)
>>> layout.cross_segments.queries, layout.cross_segments.keys
((3, 1), (3, 2))
>>> layout.group_slices[1]
(slice(6, 8, None), slice(8, 9, None))
>>> layout.attended_slices[2]  # response a2: the prompt, and itself
(slice(0, 3, None), slice(5, 6, None))
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
    """Lengths of queries and of the keys they attend to, segment by segment."""

    def __init__(self, queries: Sequence[int], keys: Sequence[int], device: torch.device):
        self.queries, self.keys, self.device = tuple(queries), tuple(keys), device

    @cached_property
    def ends(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Two of (segments + 1,) int32, on the device: 0 and the end of each segment, among queries and among keys.

        Queries of 3, 2 and 1 tokens give [0, 3, 5, 6].
        """
        queries, keys = (
            torch.tensor(_cumulative(lengths), dtype=torch.int32, device=self.device)
            for lengths in (self.queries, self.keys)
        )
        return queries, keys

    @property
    def slices(self) -> list[tuple[slice, slice]]:
        """The queries and the keys of each segment."""
        # Neighbouring ends bound a segment: queries of 3 and 2 tokens with keys of 4 and 1 give the ends (0, 0), (3,
        # 4), (5, 5), so the segments (0:3, 0:4) and (3:5, 4:5).
        ends = zip(_cumulative(self.queries), _cumulative(self.keys), strict=True)
        return [(slice(q0, q1), slice(k0, k1)) for (q0, k0), (q1, k1) in itertools.pairwise(ends)]

    @property
    def longest(self) -> tuple[int, int]:
        """The largest numbers of queries and of keys in one segment."""
        return max(self.queries), max(self.keys)


class Layout:
    """The packed row of these groups, in this order.

    This is not a dataclass because FSDP rebuilds dataclasses among a module's arguments.
    """

    def __init__(self, groups: Sequence[Group], device: torch.device | str = "cpu"):
        if not groups or any(not group.responses or min(group.prompt, *group.responses) < 1 for group in groups):
            raise ValueError(
                f"groups = {groups!r}: expected at least one group, with a prompt and responses of 1 token or more"
            )
        self.groups, self.device = tuple(groups), torch.device(device)

    @cached_property
    def self_segments(self) -> Segments:
        """Every prompt and every response with itself, in the order of the row."""
        lengths: list[int] = []
        for prompt, responses in self.groups:
            lengths += [prompt, *responses]
        return Segments(lengths, lengths, self.device)

    @cached_property
    def cross_segments(self) -> Segments:
        """All responses of a group, as one segment of queries, with their prompt as keys."""
        return Segments([sum(g.responses) for g in self.groups], [g.prompt for g in self.groups], self.device)

    @cached_property
    def tokens(self) -> int:
        """T, the length of the row."""
        return sum(self.self_segments.queries)

    @cached_property
    def attended_slices(self) -> tuple[tuple[slice, ...], ...]:
        """For each prompt and response, in the order of the row: the slices it attends to, its own last."""
        # The responses of a group lie one after another, the first one directly after the prompt.
        attended: list[tuple[slice, ...]] = []
        for (prompt, _), (_, responses) in zip(self.group_slices, self.groups, strict=True):
            attended.append((prompt,))
            end = prompt.stop
            for length in responses:
                attended.append((prompt, slice(end, end + length)))
                end += length
        return tuple(attended)

    @cached_property
    def group_slices(self) -> tuple[tuple[slice, slice], ...]:
        """For each group: the slice of its prompt, and the slice of all its responses."""
        slices, end = [], 0
        for prompt, responses in self.groups:
            start, end = end, end + prompt + sum(responses)
            slices.append((slice(start, start + prompt), slice(start + prompt, end)))
        return tuple(slices)

    @cached_property
    def is_response(self) -> torch.Tensor:
        """(T,) bool."""
        kinds: list[bool] = []
        for _, responses in self.groups:
            kinds += [False] + [True] * len(responses)
        return self._spread(kinds)

    @cached_property
    def response_indices(self) -> torch.Tensor:
        """(N,): the indices of response tokens, N = sum R."""
        return self.is_response.nonzero().squeeze(1)

    @cached_property
    def position_ids(self) -> torch.Tensor:
        """(T,): from 0 in a prompt, and from P in each of its responses."""
        starts: list[int] = []
        for prompt, responses in self.groups:
            starts += [0] + [prompt] * len(responses)
        return self._index_in_segment + self._spread(starts)

    @cached_property
    def predictor_indices(self) -> torch.Tensor:
        """(N,): for each response token, the index whose logits predict it.

        That is the token before it, but for the first token of a response the prompt's last token.
        """
        last_of_prompt, end = [], 0
        for prompt, responses in self.groups:
            # One entry for each segment of the group, prompt included, because _spread takes one value for each.
            last_of_prompt += [end + prompt - 1] * (1 + len(responses))
            end += prompt + sum(responses)
        is_first = self._index_in_segment == 0
        # It is -1 for the first token of the row, which is in a prompt, so the last line leaves it out.
        previous = torch.arange(len(is_first), device=self.device) - 1
        return torch.where(is_first, self._spread(last_of_prompt), previous)[self.response_indices]

    @cached_property
    def _index_in_segment(self) -> torch.Tensor:
        """(T,): each token's index in its prompt or response."""
        # Segments of 3 and 2 tokens give [0, 1, 2, 0, 1].
        return torch.cat([torch.arange(length) for length in self.self_segments.queries]).to(self.device)

    def _spread(self, values: Sequence[int | bool]) -> torch.Tensor:
        """(T,): a value for each prompt and response, repeated for each of its tokens."""
        # Values 7 and 8 for segments of 3 and 2 tokens give [7, 7, 7, 8, 8].
        lengths = torch.tensor(self.self_segments.queries)
        return torch.tensor(values).repeat_interleave(lengths).to(self.device)


def _cumulative(lengths: Sequence[int]) -> list[int]:
    # Lengths 3, 2 and 1 give [0, 3, 5, 6].
    return [0, *itertools.accumulate(lengths)]
