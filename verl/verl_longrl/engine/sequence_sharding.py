"""Shard a packed row, and the logits computed from it, over the ranks of sequence parallelism.

Token t of the row goes to rank t mod S. So every rank has its share of the prompt and of each response, and computes as
many logits as the others. With contiguous shards the responses, and with them all logits, would be on the last ranks.
Attention is computed over the whole row (Ulysses: each rank has all tokens of some heads), so the order matters nowhere
else. With S = 2, the row [0 1 2 3 4] gives the shards [0 2 4] and [1 3 pad].

Shapes: S ranks; T tokens of a row, padded to a multiple of S; N logits needed in total, M the largest number of them on
one rank.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad


def shard(x_T: Tensor, ranks: int, rank: int) -> Tensor:
    """(ceil(T / S), ...): a rank's tokens of x, (T, ...). A shard that is one token short is padded with a zero."""
    tokens = x_T[rank::ranks]
    # -(-a // b) is a / b rounded up.
    missing = -(-len(x_T) // ranks) - len(tokens)
    # pad takes two numbers for each dimension, from the last one to the first.
    return pad(tokens, [0, 0] * (tokens.ndim - 1) + [0, missing]) if missing else tokens


def unshard(shards_T: Tensor, ranks: int, tokens: int) -> Tensor:
    """(T, ...): the row, from the shards of all ranks one after another. tokens: T, without padding."""
    # Token i of rank r is token i * ranks + r of the packed row. So the shards are the columns of a matrix, and reading
    # it row by row gives the packed row.
    return shards_T.unflatten(0, (ranks, -1)).transpose(0, 1).flatten(0, 1)[:tokens]


def all_shards(x_T: Tensor, ranks: int) -> Tensor:
    """(S ceil(T / S), ...): the shards of all ranks one after another. The inverse of `unshard`, up to padding."""
    return torch.cat([shard(x_T, ranks, rank) for rank in range(ranks)])


class LogitShard(NamedTuple):
    """The logits that one rank computes.

    Collectives need equal shapes, so a rank with fewer than M logits computes others, which are not used.
    """

    local_indices: Tensor
    """(M,): the tokens in the rank's shard whose logits it computes."""

    logit_indices: Tensor
    """(M,): the number, among all N, of each of these logits."""

    gathered_indices: Tensor
    """(N,): the place of each logit when the M of all ranks are put one after another."""


def shard_logits(rank_N: Tensor, local_N: Tensor, ranks: int, rank: int) -> LogitShard:
    """The share of one rank in N logits.

    Args:
        rank_N: the rank that has the token of each logit.
        local_N: the index of that token in the rank's shard.

    With ranks [0, 1, 0] and local indices [4, 4, 5], M is 2. Rank 0 computes logits 0 and 2, at 4 and 5 of its shard.
    Rank 1 computes logit 1, at 4, and logit 0 as filling. After a gather they lie in the order [0, 2, 1, 0], so
    gathered_indices is [0, 2, 1].
    """
    order = rank_N.argsort(stable=True)
    counts = rank_N.bincount(minlength=ranks)
    starts, most = counts.cumsum(0) - counts, int(counts.max())

    # order[i] is the i-th logit when they are sorted by rank: number i - starts[rank] of its rank.
    sorted_ranks = rank_N[order]
    gathered_indices = torch.empty_like(order)
    gathered_indices[order] = sorted_ranks * most + torch.arange(len(order), device=order.device) - starts[sorted_ranks]

    # Filled up with logit 0, which gathered_indices takes only from the rank that has it.
    logit_indices = order[starts[rank] : starts[rank] + counts[rank]]
    logit_indices = torch.cat([logit_indices, logit_indices.new_zeros(most - len(logit_indices))])
    return LogitShard(local_N[logit_indices], logit_indices, gathered_indices)
