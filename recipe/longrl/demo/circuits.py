"""Initial weights that contain induction heads, so that a tiny model learns to look up facts in seconds.

From random weights, a two-layer model stays at chance for minutes: the head that reads an earlier token and the head
that uses it must appear together. Here both are written into the weights before training (compare mimetic
initialisation, Trockman & Kolter 2023, and induction heads, Olsson et al. 2022). All other weights stay random, and no
training data is used.

- Dimension 0 of every embedding is a constant, so that a head of layer 0 can attend by position alone: its query and
  its key, rotated by n steps, match best n tokens back. The head writes the token that it reads into a separate
  subspace.
- The same head of layer 1 compares the current token with that subspace, using the slow rotary frequencies, which stay
  in phase over hundreds of tokens, and adds the token that it attends to to the output.
- n = 1 continues a text that has appeared before: the key after a dash, the value after a key, the tag after a value.
  The n that a world needs follows from the wording of its facts; see each world's build.
- Pairs of tokens that predict one another, such as the tags of a chunk, start with similar embeddings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from transformers import Qwen3ForCausalLM

CONSTANT = 0.3
SHARPNESS = 2.0
"""Initial query and key norm weights: 1 would leave attention nearly flat over hundreds of tokens."""
QUIET = 0.1
"""Scale of all other outputs into the residual stream, which would otherwise hide the head's signal."""


@dataclass(frozen=True)
class Circuits:
    """The induction heads of a model."""

    offsets: tuple[int, ...]
    """How many tokens back head 0, 1, ... of layer 0 attends."""
    reach: float = 400.0
    """Distance in tokens over which two tokens must match; only rotary frequencies below 1 / reach are compared."""
    alike: tuple[tuple[str, str], ...] = ()
    """Pairs of words whose embeddings start similar."""


@torch.no_grad()
def write_induction_heads(
    model: Qwen3ForCausalLM, circuits: Circuits, ids: Mapping[str, int], rope_theta: float
) -> None:
    """Overwrite part of the random weights of a two-layer model, in place; uses torch's global generator.

    Args:
        ids: of the words in `circuits.alike`.
        rope_theta: base of the model's rotary frequencies.
    """
    width, head = model.config.hidden_size, model.config.head_dim
    embedding = model.model.embed_tokens.weight
    if circuits.alike:
        opening, closing = ([ids[word] for word in words] for words in zip(*circuits.alike, strict=True))
        embedding[closing] = embedding[opening] + model.config.initializer_range * torch.randn(width)
    embedding[:, 0] = CONSTANT
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.mul_(QUIET)
        layer.mlp.down_proj.weight.mul_(QUIET)
        layer.self_attn.q_norm.weight.fill_(SHARPNESS)
        layer.self_attn.k_norm.weight.fill_(SHARPNESS)

    first, second = (layer.self_attn for layer in model.model.layers)
    frequencies = rope_theta ** (-torch.arange(head // 2) / (head / 2))
    slow = (frequencies < 1 / circuits.reach).repeat(2)[:, None]
    # Subspaces of shape (head, width), orthogonal to one another.
    reads, *marks = _orthonormal(width, width).split(head)[: 1 + len(circuits.offsets)]
    for rows in (reads, *marks, second.q_proj.weight, second.k_proj.weight):
        rows[:, 0] = 0.0
    for number, (offset, mark) in enumerate(zip(circuits.offsets, marks, strict=True)):
        of_head = slice(number * head, (number + 1) * head)
        _look_back(first.q_proj.weight[of_head], first.k_proj.weight[of_head], frequencies[: head // 12], offset)
        first.v_proj.weight[of_head] = 0.5 * reads
        first.o_proj.weight[:, of_head] = mark.T
        mix = _orthonormal(head, head)
        second.q_proj.weight[of_head] = (mix @ reads) * slow
        second.k_proj.weight[of_head] = (mix @ mark) * slow
        second.v_proj.weight[of_head] = reads
        second.o_proj.weight[:, of_head] = reads.T


def _look_back(query: torch.Tensor, key: torch.Tensor, frequencies: torch.Tensor, offset: int) -> None:
    """Make one head attend `offset` tokens back. query, key: the head's rows of the projections, (head, width).

    For the pair of dimensions that rotates with frequency f, the query is a constant and the key is turned ahead by
    offset * f, so that rotary embeddings bring both into phase at a distance of `offset`.
    """
    half = len(query) // 2
    for rows in (query, key):
        rows *= QUIET
    for pair, frequency in enumerate(frequencies.tolist()):
        query[pair, 0] = 1.0
        key[pair, 0] = math.cos(offset * frequency)
        key[pair + half, 0] = math.sin(offset * frequency)


def _orthonormal(rows: int, columns: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(rows, columns))[0]
