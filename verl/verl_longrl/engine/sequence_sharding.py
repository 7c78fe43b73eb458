"""How the tokens of a row, and the logits wanted of it, are shared by the ranks of sequence parallelism.

Token t of a packed row goes to rank t mod S, as cards are dealt. So every rank has its part of the prompt and of each
response, and computes as many logits as the others; in contiguous parts the responses, and with them all logits, would
be the last ranks'. Attention is computed over the whole row (Ulysses: each rank has all tokens of some heads), so the
order matters nowhere else.

S ranks; T tokens of a row, padded to a multiple of S; N logits wanted, M the most that a rank computes of them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad


def part(x_T: Tensor, ranks: int, rank: int) -> Tensor:
    """(ceil(T / S), ...): a rank's tokens; where its last one lies beyond the row, zeros."""
    own = x_T[rank::ranks]
    short = -(-len(x_T) // ranks) - len(own)
    return pad(own, [0, 0] * (own.ndim - 1) + [0, short]) if short else own


def row(parts_T: Tensor, ranks: int, tokens: int) -> Tensor:
    """(T, ...): the row, of all ranks' parts one after another."""
    return parts_T.unflatten(0, (ranks, -1)).transpose(0, 1).flatten(0, 1)[:tokens]


def parts(x_T: Tensor, ranks: int) -> Tensor:
    """All ranks' parts one after another, of the row: the inverse of `row`, up to the padding."""
    return torch.cat([part(x_T, ranks, rank) for rank in range(ranks)])


class Kept(NamedTuple):
    """The logits that a rank computes.

    local: (M,) where in its part of the row. wanted: (M,) which of the N wanted ones each is. slots: (N,) where each
    wanted one is when all ranks' M are put one after another. Ranks with fewer than M compute some that nobody reads,
    for their collectives take equal shapes.
    """

    local: Tensor
    wanted: Tensor
    slots: Tensor


def kept(owner_N: Tensor, local_N: Tensor, ranks: int, rank: int) -> Kept:
    """owner: the rank that has what is wanted, local: where in its part."""
    order = owner_N.argsort(stable=True)
    counts = owner_N.bincount(minlength=ranks)
    starts, most = counts.cumsum(0) - counts, int(counts.max())
    owners = owner_N[order]
    slots = torch.empty_like(order)
    slots[order] = owners * most + torch.arange(len(order), device=order.device) - starts[owners]
    wanted = order[starts[rank] : starts[rank] + counts[rank]]
    wanted = torch.cat([wanted, wanted.new_zeros(most - len(wanted))])
    return Kept(local_N[wanted], wanted, slots)
