"""Attention over a packed row (layout.py): a prompt attends to itself, a response to its prompt and to itself.

Two ways to compute one function and its gradient, neither with a mask:

- `merge`: each segment with itself, and all responses of a group with their prompt, put together by their log-sum-exp.
  Nothing is copied for each response, and a prompt's keys are read once for all of them. The backward of each part
  takes the merged output and log-sum-exp, as ring attention does (Liu et al. 2023, arXiv 2310.01889), and is exact;
  merging outputs whose log-sum-exp carries no gradient gives the right values and a wrong gradient. On CPUs, and on
  GPUs in half precision (kernels.py).
- `lower_right`: each response with keys [prompt; own] by `torch.nn.attention.bias.causal_lower_right`, for GPUs where
  `merge` does not work: float32, old devices, unusual head sizes. Keys and values are copied and expanded to all query
  heads, for one response at a time: the backward computes each again.

Shapes: T tokens of the row, N of all responses, M of all prompts, L of a segment; H query heads, K key-value heads of
which H is a multiple, D the size of a head.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.backends.cuda import SDPAParams, can_use_efficient_attention, can_use_flash_attention
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

from verl_longrl.engine.kernels import CPU, VARLEN, Kernel, strictly_deterministic, varlen_problem
from verl_longrl.engine.layout import Layout

Way = Literal["merge", "lower_right"]
INSTEAD = "longrl.engine=response_logits computes attention as verl does"


class Choice(NamedTuple):
    """A way, and why it is taken, for people."""

    way: Way
    reason: str


def attend(q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, layout: Layout, scale: float, way: Way | None = None) -> Tensor:
    """(T, H, D): the attention of a packed row.

    Args:
        scale: of the products of queries and keys, usually D ** -0.5.
        way: None for the best on the device.

    Raises:
        ValueError: no way works on the device (see best_way).
    """
    if way is None:
        way = best_way(q_THD.device, q_THD.dtype, q_THD.shape[-1]).way
    function = _Merged if way == "merge" else _LowerRight
    out_THD: Tensor = function.apply(q_THD, k_TKD, v_TKD, layout, scale)
    return out_THD


@cache
def best_way(device: torch.device, dtype: torch.dtype, head_size: int) -> Choice:
    """The fastest way that works for such queries.

    Raises:
        ValueError: none does; with the reasons, and what to set instead.
    """
    if device.type == "cpu":
        return Choice("merge", "torch's CPU kernel, merged by log-sum-exp")
    if device.type != "cuda" or torch.version.hip:
        raise ValueError(f"attention of a shared prompt is for CPUs and NVIDIA GPUs, not for {device}; {INSTEAD}")
    problem = varlen_problem(device, dtype, head_size)
    if problem is None:
        return Choice("merge", "torch's varlen FlashAttention kernel, merged by log-sum-exp")
    if not _without_a_mask(device, dtype, head_size):
        raise ValueError(
            f"no attention kernel without a mask for {dtype}, heads of {head_size} on {device}: {problem}, and torch's "
            f"memory-efficient kernel cannot either; {INSTEAD}"
        )
    return Choice("lower_right", f"torch's lower-right causal attention, one response at a time: {problem}")


def _without_a_mask(device: torch.device, dtype: torch.dtype, head_size: int) -> bool:
    """Whether torch has a kernel that causal_lower_right can use; it would build the mask where there is none."""
    q = torch.empty(1, 1, 8, head_size, dtype=dtype, device=device, requires_grad=True)
    params = SDPAParams(q, q, q, None, 0.0, False, False)
    return can_use_flash_attention(params) or can_use_efficient_attention(params)


class _Merged(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, layout: Layout, scale: float) -> Tensor:
        kernel, (prompts, responses) = _kernel(q_THD), zip(*layout.shared_places, strict=True)
        out_THD, lse_HT = kernel.forward(q_THD, k_TKD, v_TKD, layout.own, True, scale)
        shared_NHD, shared_lse_HN = kernel.forward(
            _gathered(q_THD, responses),
            _gathered(k_TKD, prompts),
            _gathered(v_TKD, prompts),
            layout.shared,
            False,
            scale,
        )
        own_lse_HN = _gathered(lse_HT.mT, responses).mT
        merged_lse_HN = torch.logaddexp(own_lse_HN, shared_lse_HN)
        own, shared = ((lse - merged_lse_HN).exp().mT[..., None] for lse in (own_lse_HN, shared_lse_HN))
        merged_NHD = own * _gathered(out_THD, responses) + shared * shared_NHD
        for place, out, lse in _pieces(responses, merged_NHD, merged_lse_HN.mT):
            out_THD[place], lse_HT[:, place] = out, lse.mT
        ctx.save_for_backward(q_THD, k_TKD, v_TKD, out_THD, lse_HT)
        ctx.layout, ctx.scale = layout, scale
        return out_THD

    @staticmethod
    def backward(ctx: Any, grad_THD: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        q_THD, k_TKD, v_TKD, out_THD, lse_HT = ctx.saved_tensors
        kernel, (prompts, responses) = _kernel(q_THD), zip(*ctx.layout.shared_places, strict=True)
        own = ctx.layout.own
        whole = kernel.backward(grad_THD, q_THD, k_TKD, v_TKD, out_THD, lse_HT, own, True, ctx.scale)
        grad_NHD, q_NHD, out_NHD = (_gathered(x, responses) for x in (grad_THD, q_THD, out_THD))
        k_MKD, v_MKD, lse_HN = _gathered(k_TKD, prompts), _gathered(v_TKD, prompts), _gathered(lse_HT.mT, responses).mT
        part = kernel.backward(grad_NHD, q_NHD, k_MKD, v_MKD, out_NHD, lse_HN, ctx.layout.shared, False, ctx.scale)
        for total, more, places in zip(whole, part, (responses, prompts, prompts), strict=True):
            for place, piece in _pieces(places, more):
                total[place] += piece
        return *whole, None, None


def _kernel(q: Tensor) -> Kernel:
    return CPU if q.device.type == "cpu" else VARLEN


def _gathered(x: Tensor, places: Sequence[slice]) -> Tensor:
    """Rows of x: a view where they are in one place. Slices, because the backward of an index sorts it on GPUs."""
    return x[places[0]] if len(places) == 1 else torch.cat([x[place] for place in places])


def _pieces(places: Sequence[slice], *gathered: Tensor) -> Iterable[tuple[Any, ...]]:
    """The inverse of _gathered: each place with its rows of each."""
    lengths = [place.stop - place.start for place in places]
    return zip(places, *(x.split(lengths) for x in gathered), strict=True)


class _LowerRight(torch.autograd.Function):
    """Gradients of a prompt's keys and values, of which each of its responses has some, are added up in float32 and in
    a fixed order."""

    @staticmethod
    def forward(ctx: Any, q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, layout: Layout, scale: float) -> Tensor:
        ctx.save_for_backward(q_THD, k_TKD, v_TKD)
        ctx.layout, ctx.scale = layout, scale
        found = [
            _lower_right(q_THD[places[-1]], _gathered(k_TKD, places), _gathered(v_TKD, places), scale)
            for places in layout.looked_at
        ]
        return torch.cat(found)

    @staticmethod
    def backward(ctx: Any, grad_THD: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        saved: tuple[Tensor, ...] = ctx.saved_tensors
        totals = [torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float)) for x in saved]
        for places in ctx.layout.looked_at:
            of = (places[-1:], places, places)
            q, k, v = (_gathered(x, each).detach().requires_grad_() for x, each in zip(saved, of, strict=True))
            with torch.enable_grad():
                out = _lower_right(q, k, v, ctx.scale)
            with strictly_deterministic():
                grads = torch.autograd.grad(out, (q, k, v), grad_THD[places[-1]])
            for total, grad, each in zip(totals, grads, of, strict=True):
                for place, piece in _pieces(each, grad):
                    total[place] += piece
        return *(total.to(x.dtype) for total, x in zip(totals, saved, strict=True)), None, None


def _lower_right(q_LHD: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """(L, H, D): the last L of the keys are the queries' own."""
    copies = q_LHD.shape[1] // k.shape[1]
    q, k, v = (x.transpose(0, 1)[None] for x in (q_LHD, *(x.repeat_interleave(copies, 1) for x in (k, v))))
    without_a_mask = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
    with sdpa_kernel(without_a_mask) if q.is_cuda else nullcontext():
        out = scaled_dot_product_attention(q, k, v, causal_lower_right(q.shape[2], k.shape[2]), scale=scale)
    return out[0].transpose(0, 1)
