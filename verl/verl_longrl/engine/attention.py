"""Attention over a packed row (layout.py): a prompt attends to itself, a response to its prompt and to itself.

Three ways to compute one function and its gradient:

- `merge` (CPU): each segment with itself, and all responses of a group with their prompt, put together by their
  log-sum-exp. Nothing is copied, no mask exists, and a prompt's keys are read once for all its responses. The backward
  of each part takes the merged output and log-sum-exp, as ring attention does (Liu et al. 2023, arXiv 2310.01889), and
  is exact; merging outputs whose log-sum-exp carries no gradient gives the right values and a wrong gradient.
- `flash` (GPU, half precision): two calls of flash-attn's varlen kernel, all prompts, and all responses with keys
  [prompt; own], which it aligns at the bottom right (flash-attn 2.1 and later).
- `sdpa` (any device): each response with keys [prompt; own] and a mask, by torch's attention.

The last two copy a prompt's keys and values for each response: G (P + R) of them, per layer; recomputed with gradient
checkpointing, kept without.

Shapes: T tokens of the row, N of all responses, M of all prompts, L of a segment; H query heads, K key-value heads of
which H is a multiple, D the size of a head.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from verl_longrl.engine.layout import Layout, Segments

Way = Literal["merge", "flash", "sdpa"]
_flash_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def attend(q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, layout: Layout, scale: float, way: Way | None = None) -> Tensor:
    """(T, H, D): the attention of a packed row.

    Args:
        scale: of the products of queries and keys, usually D ** -0.5.
        way: None for the best on the device.
    """
    if way is None:
        way = best_way(q_THD)
    if way == "merge":
        merged: Tensor = _Merged.apply(q_THD, k_TKD, v_TKD, layout, scale)
        return merged
    return (_flash if way == "flash" else _sdpa)(q_THD, k_TKD, v_TKD, layout, scale)


def best_way(q_THD: Tensor) -> Way:
    """The fastest that works for these queries."""
    if q_THD.device.type == "cpu":
        return "merge"
    half = q_THD.dtype in (torch.float16, torch.bfloat16)
    return "flash" if half and _has_flash_attn() else "sdpa"


@cache
def _has_flash_attn() -> bool:
    return importlib.util.find_spec("flash_attn") is not None


class _Merged(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, layout: Layout, scale: float) -> Tensor:
        responses, prompts = layout.responses, layout.prompts
        out_THD, lse_TH = _forward(q_THD, k_TKD, v_TKD, layout.own, True, scale)
        shared_NHD, shared_lse_NH = _forward(
            q_THD[responses], k_TKD[prompts], v_TKD[prompts], layout.shared, False, scale
        )
        own_lse_NH = lse_TH[responses]
        merged_lse_NH = torch.logaddexp(own_lse_NH, shared_lse_NH)
        own, shared = ((lse - merged_lse_NH).exp()[..., None] for lse in (own_lse_NH, shared_lse_NH))
        out_THD[responses] = (own * out_THD[responses] + shared * shared_NHD).to(out_THD.dtype)
        lse_TH[responses] = merged_lse_NH
        ctx.save_for_backward(q_THD, k_TKD, v_TKD, out_THD, lse_TH)
        ctx.layout, ctx.scale = layout, scale
        return out_THD

    @staticmethod
    def backward(ctx: Any, grad_THD: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        q_THD, k_TKD, v_TKD, out_THD, lse_TH = ctx.saved_tensors
        responses, prompts = ctx.layout.responses, ctx.layout.prompts
        whole = _backward(grad_THD, q_THD, k_TKD, v_TKD, out_THD, lse_TH, ctx.layout.own, True, ctx.scale)
        grad_NHD, q_NHD, out_NHD, lse_NH = (x[responses] for x in (grad_THD, q_THD, out_THD, lse_TH))
        k_MKD, v_MKD = k_TKD[prompts], v_TKD[prompts]
        shared = _backward(grad_NHD, q_NHD, k_MKD, v_MKD, out_NHD, lse_NH, ctx.layout.shared, False, ctx.scale)
        for grad, part, places in zip(whole, shared, (responses, prompts, prompts), strict=True):
            grad.index_add_(0, places, part)
        return *whole, None, None


def _forward(q: Tensor, k: Tensor, v: Tensor, segments: Segments, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    """Output and log-sum-exp of each segment by itself, one after another: (T, H, D) and (T, H)."""
    found = [_flash_forward(*parts, 0.0, causal, scale=scale) for parts in _cut(segments, (q, k, v))]
    return _joined(out for out, _ in found), _joined(lse[..., None] for _, lse in found)[..., 0]


def _backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    segments: Segments,
    causal: bool,
    scale: float,
) -> list[Tensor]:
    """The gradients of q, k and v."""
    found = [
        _flash_backward(grad, q, k, v, out, lse[..., 0], 0.0, causal, scale=scale)
        for q, k, v, grad, out, lse in _cut(segments, (q, k, v, grad, out, lse[..., None]))
    ]
    return [_joined(parts) for parts in zip(*found, strict=True)]


def _cut(segments: Segments, tensors: tuple[Tensor, ...]) -> Iterator[list[Tensor]]:
    """Each segment of queries, keys, values and what goes with queries, as (1, H, L, D)."""
    of_queries, of_keys = (
        [slice(*ends) for ends in itertools.pairwise((0, *itertools.accumulate(s)))] for s in segments
    )
    for queries, keys in zip(of_queries, of_keys, strict=True):
        parts = [queries, keys, keys, *[queries] * (len(tensors) - 3)]
        yield [x[part].transpose(0, 1)[None].contiguous() for x, part in zip(tensors, parts, strict=True)]


def _joined(parts: Any) -> Tensor:
    """Segments (1, H, L, D) as (T, H, D)."""
    return torch.cat([part[0].transpose(0, 1) for part in parts])


def _flash(q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, layout: Layout, scale: float) -> Tensor:
    from flash_attn import flash_attn_varlen_func

    how = {"softmax_scale": scale, "causal": True}
    q_MHD, k_MKD, v_MKD = (x[layout.prompts] for x in (q_THD, k_TKD, v_TKD))
    ends, longest = layout.prompt_ends, max(group.prompt for group in layout.groups)
    prompts = flash_attn_varlen_func(q_MHD, k_MKD, v_MKD, ends, ends, longest, longest, **how)
    k, v = (_Continued.apply(x, layout) for x in (k_TKD, v_TKD))
    most = (max(lengths) for lengths in layout.continued)
    responses = flash_attn_varlen_func(q_THD[layout.responses], k, v, *layout.continued_ends, *most, **how)
    return torch.cat([prompts, responses])[layout.prompts_first]


class _Continued(torch.autograd.Function):
    """Keys or values of each response's prompt and itself, (sum (P + R), K, D). Their gradients, of which a prompt's
    token has one for each response, are added up in float32 and in a fixed order."""

    @staticmethod
    def forward(ctx: Any, x_TKD: Tensor, layout: Layout) -> Tensor:
        ctx.layout = layout
        return torch.cat([x_TKD[part] for span in layout.spans for part in span])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        total = grad.new_zeros((ctx.layout.tokens, *grad.shape[1:]), dtype=torch.promote_types(grad.dtype, torch.float))
        parts = [part for span in ctx.layout.spans for part in span]
        for part, own in zip(parts, grad.split([part.stop - part.start for part in parts]), strict=True):
            total[part] += own
        return total.to(grad.dtype), None


def _sdpa(q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, layout: Layout, scale: float) -> Tensor:
    outs, start = [], 0
    for prompt, responses in layout.groups:
        shared = slice(start, start + prompt)
        for number, length in enumerate((prompt, *responses)):
            own = slice(start, start + length)
            k, v = (x[own] if number == 0 else torch.cat([x[shared], x[own]]) for x in (k_TKD, v_TKD))
            mask = (
                torch.ones(length, len(k), dtype=torch.bool, device=k.device).tril(len(k) - length) if number else None
            )
            q, k, v = (x.transpose(0, 1)[None] for x in (q_THD[own], k, v))
            outs.append(
                scaled_dot_product_attention(q, k, v, mask, is_causal=number == 0, scale=scale, enable_gqa=True)
            )
            start = own.stop
    return _joined(outs)
