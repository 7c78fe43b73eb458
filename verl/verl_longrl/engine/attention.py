"""Attention over a packed row (layout.py): a prompt attends to itself, a response to its prompt and to itself.

Two backends compute the same function and gradient, neither with a mask:

- `lse_merge`: self-attention of each segment, and cross-attention of all responses of a group to their prompt, merged
  by their log-sum-exp. Nothing is copied for each response, and a prompt's keys are read once for all responses. The
  backward of each of the two takes the merged output and log-sum-exp, as in ring attention (Liu et al. 2023, arXiv
  2310.01889), and is exact. To merge two outputs whose log-sum-exp carries no gradient would give the right values and
  a wrong gradient. Used on CPUs, and on GPUs in half precision (kernels.py).
- `lower_right`: each response attends to the keys [prompt; response] by
  `torch.nn.attention.bias.causal_lower_right`. Used on GPUs where `lse_merge` does not work: float32, old devices,
  unusual head sizes. Keys and values are copied and expanded to all query heads, for one response at a time; the
  backward recomputes the forward of each.

Shapes: T tokens of the row, N of all responses, M of all prompts, L of one segment; H query heads, K key-value heads
(H is a multiple of K), D the head size.
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

from verl_longrl.engine.kernels import (
    CPU_KERNEL,
    VARLEN_KERNEL,
    Activations,
    Kernel,
    Pattern,
    strictly_deterministic,
    varlen_unsupported_reason,
)
from verl_longrl.engine.layout import Layout

Backend = Literal["lse_merge", "lower_right"]
ALTERNATIVE = "longrl.engine=response_logits computes attention as verl does"


class BackendChoice(NamedTuple):
    """A backend, and why it was chosen, as a message for users."""

    backend: Backend
    reason: str


def attend(
    q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, layout: Layout, scale: float, backend: Backend | None = None
) -> Tensor:
    """(T, H, D): the attention of a packed row.

    Args:
        scale: factor of the products of queries and keys, usually D ** -0.5.
        backend: None for the best on the device.

    Raises:
        ValueError: no backend works on the device (see choose_backend).
    """
    if backend is None:
        backend = choose_backend(q_THD.device, q_THD.dtype, q_THD.shape[-1]).backend
    function = _LseMerge if backend == "lse_merge" else _LowerRight
    out_THD: Tensor = function.apply(q_THD, k_TKD, v_TKD, layout, scale)
    return out_THD


@cache
def choose_backend(device: torch.device, dtype: torch.dtype, head_size: int) -> BackendChoice:
    """The fastest backend that works for such queries.

    Raises:
        ValueError: no backend works; the message gives the reasons and what to set instead.
    """
    if device.type == "cpu":
        return BackendChoice("lse_merge", "torch's CPU kernel, merged by log-sum-exp")
    if device.type != "cuda" or torch.version.hip:
        raise ValueError(f"shared-prompt attention runs on CPUs and NVIDIA GPUs, not on {device}; {ALTERNATIVE}")
    varlen_reason = varlen_unsupported_reason(device, dtype, head_size)
    if varlen_reason is None:
        return BackendChoice("lse_merge", "torch's varlen FlashAttention kernel, merged by log-sum-exp")
    if not _has_kernel_without_mask(device, dtype, head_size):
        raise ValueError(
            f"no attention kernel without a mask for {dtype}, heads of {head_size} on {device}: {varlen_reason}, and "
            f"torch's memory-efficient kernel does not support it either; {ALTERNATIVE}"
        )
    return BackendChoice("lower_right", f"torch's lower-right causal attention, response by response: {varlen_reason}")


def _has_kernel_without_mask(device: torch.device, dtype: torch.dtype, head_size: int) -> bool:
    """Whether causal_lower_right finds a kernel. Without one it would silently build the whole mask."""
    q = torch.empty(1, 1, 8, head_size, dtype=dtype, device=device, requires_grad=True)
    params = SDPAParams(q, q, q, None, 0.0, False, False)
    return can_use_flash_attention(params) or can_use_efficient_attention(params)


class _LseMerge(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, layout: Layout, scale: float) -> Tensor:
        kernel, (prompts, responses) = _kernel_for(q_THD), zip(*layout.group_slices, strict=True)

        # Softmax over two disjoint sets of keys. Each attention below is normalized over its own keys, by exp(lse).
        out_THD, lse_HT = kernel.forward(q_THD, k_TKD, v_TKD, Pattern(layout.self_segments, True, scale))
        cross_NHD, cross_lse_HN = kernel.forward(
            _gather(q_THD, responses),
            _gather(k_TKD, prompts),
            _gather(v_TKD, prompts),
            Pattern(layout.cross_segments, False, scale),
        )

        # Normalized over all keys: out = (exp(lse_1) out_1 + exp(lse_2) out_2) / exp(lse), with
        # exp(lse) = exp(lse_1) + exp(lse_2). Differences of lse keep the exponentials at or below 1.
        self_lse_HN = _gather(lse_HT.mT, responses).mT
        merged_lse_HN = torch.logaddexp(self_lse_HN, cross_lse_HN)
        self_weight_NH1 = (self_lse_HN - merged_lse_HN).exp().mT[..., None]
        cross_weight_NH1 = (cross_lse_HN - merged_lse_HN).exp().mT[..., None]
        merged_NHD = self_weight_NH1 * _gather(out_THD, responses) + cross_weight_NH1 * cross_NHD

        # Prompts attend to themselves only, so their rows of out and lse are final already.
        for tokens, out, lse in _split_by_slices(responses, merged_NHD, merged_lse_HN.mT):
            out_THD[tokens], lse_HT[:, tokens] = out, lse.mT
        ctx.save_for_backward(q_THD, k_TKD, v_TKD, out_THD, lse_HT)
        ctx.layout, ctx.scale = layout, scale
        return out_THD

    @staticmethod
    def backward(ctx: Any, grad_THD: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        # out_THD and lse_HT are the merged ones. FlashAttention's backward recomputes the probabilities as
        # exp(q k scale - lse) and the softmax term as the sum of out * grad. Both refer to all keys of a query, so
        # given the merged out and lse it returns exactly the share of the gradient that comes from the keys it is
        # given, and the shares of disjoint keys add up.
        q_THD, k_TKD, v_TKD, out_THD, lse_HT = ctx.saved_tensors
        layout: Layout = ctx.layout
        kernel, (prompts, responses) = _kernel_for(q_THD), zip(*layout.group_slices, strict=True)

        # First share: each segment's own keys. These tensors also hold the totals.
        totals = kernel.backward(
            grad_THD,
            Activations(q_THD, k_TKD, v_TKD, out_THD, lse_HT),
            Pattern(layout.self_segments, True, ctx.scale),
        )

        # Second share: the prompts' keys, for queries of responses.
        shared = Activations(
            _gather(q_THD, responses),
            _gather(k_TKD, prompts),
            _gather(v_TKD, prompts),
            _gather(out_THD, responses),
            _gather(lse_HT.mT, responses).mT,
        )
        cross_grads = kernel.backward(
            _gather(grad_THD, responses), shared, Pattern(layout.cross_segments, False, ctx.scale)
        )

        # The gradient of queries (N rows) belongs to responses, those of keys and values (M rows) to prompts. Within
        # each call the kernel has summed a prompt's gradient over its responses; here it is rounded only once more.
        for total, cross_grad, slices in zip(totals, cross_grads, (responses, prompts, prompts), strict=True):
            for tokens, piece in _split_by_slices(slices, cross_grad):
                total[tokens] += piece
        return *totals, None, None


def _kernel_for(q: Tensor) -> Kernel:
    return CPU_KERNEL if q.device.type == "cpu" else VARLEN_KERNEL


def _gather(x_T: Tensor, slices: Sequence[slice]) -> Tensor:
    """(sum of lengths, ...): the rows of x in these slices, as a view if there is only one.

    Slices rather than an index tensor, because on GPUs the backward of an index sorts it.
    """
    return x_T[slices[0]] if len(slices) == 1 else torch.cat([x_T[tokens] for tokens in slices])


def _split_by_slices(slices: Sequence[slice], *gathered: Tensor) -> Iterable[tuple[Any, ...]]:
    """The inverse of _gather: each slice with its rows of each tensor."""
    lengths = [tokens.stop - tokens.start for tokens in slices]
    return zip(slices, *(x.split(lengths) for x in gathered), strict=True)


class _LowerRight(torch.autograd.Function):
    """One segment at a time.

    Each response contributes to the gradients of its prompt's keys and values. They are summed in float32 and in a
    fixed order.
    """

    @staticmethod
    def forward(ctx: Any, q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, layout: Layout, scale: float) -> Tensor:
        ctx.save_for_backward(q_THD, k_TKD, v_TKD)
        ctx.layout, ctx.scale = layout, scale
        outputs = [
            _lower_right(q_THD[slices[-1]], _gather(k_TKD, slices), _gather(v_TKD, slices), scale)
            for slices in layout.attended_slices
        ]
        return torch.cat(outputs)

    @staticmethod
    def backward(ctx: Any, grad_THD: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        saved: tuple[Tensor, ...] = ctx.saved_tensors
        totals = [torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float)) for x in saved]
        for attended in ctx.layout.attended_slices:
            queries = attended[-1:]
            slices_qkv = (queries, attended, attended)
            q, k, v = (
                _gather(x, slices).detach().requires_grad_() for x, slices in zip(saved, slices_qkv, strict=True)
            )
            with torch.enable_grad():
                out = _lower_right(q, k, v, ctx.scale)
            with strictly_deterministic():
                grads = torch.autograd.grad(out, (q, k, v), grad_THD[queries[0]])
            for total, grad, slices in zip(totals, grads, slices_qkv, strict=True):
                for tokens, piece in _split_by_slices(slices, grad):
                    total[tokens] += piece
        return *(total.to(x.dtype) for total, x in zip(totals, saved, strict=True)), None, None


def _lower_right(q_LHD: Tensor, k_SKD: Tensor, v_SKD: Tensor, scale: float) -> Tensor:
    """(L, H, D): attention to S >= L keys, of which the last L belong to the queries' own tokens."""
    copies = q_LHD.shape[1] // k_SKD.shape[1]
    k_SHD, v_SHD = (x.repeat_interleave(copies, 1) for x in (k_SKD, v_SKD))
    q_1HLD, k_1HSD, v_1HSD = (x.transpose(0, 1)[None] for x in (q_LHD, k_SHD, v_SHD))
    without_mask = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
    with sdpa_kernel(without_mask) if q_LHD.is_cuda else nullcontext():
        bias = causal_lower_right(len(q_LHD), len(k_SKD))
        out_1HLD = scaled_dot_product_attention(q_1HLD, k_1HSD, v_1HSD, bias, scale=scale)
    return out_1HLD[0].transpose(0, 1)
