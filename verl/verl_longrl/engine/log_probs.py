"""Log-probabilities of labels, exact and in little memory, with or without flash-attn.

verl's `logprobs_from_logits` uses flash-attn's cross entropy where it is installed. Where it is not, it loops over
the rows in Python, rounds a bfloat16 row's log-probability to bfloat16, and keeps a second copy of the logits for the
backward pass. The function here does what flash-attn's kernel does: it computes in float32, keeps the logits and one
number per row, and can write the gradient into the logits.

Shapes: M rows, V words.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from verl.utils import torch_functional

CHUNK_ENTRIES = 2**22
"""Entries computed at a time: 16 MiB for each temporary float32 tensor."""


def log_probs(logits_MV: Tensor, labels_M: Tensor, in_place: bool) -> Tensor:
    """(M,): the log-probability of each row's label, in float32 or wider.

    in_place: the backward pass may write the gradient into the logits, which nothing else may then read.
    """
    if _has_kernel():
        found: Tensor = torch_functional.logprobs_from_logits(logits_MV, labels_M, inplace_backward=in_place)
        return found
    chunked: Tensor = _Chunked.apply(logits_MV, labels_M, in_place)
    return chunked


def _has_kernel() -> bool:
    """Whether verl would use a kernel (its own rule, VERL_DISABLE_FLASH_ATTN_CE included)."""
    flash = torch_functional.FLAH_ATTN_CROSS_ENTROPY_LOSS_AVAILABLE
    if flash and os.environ.get("VERL_DISABLE_FLASH_ATTN_CE", "0") != "1":
        return True
    return bool(not flash and torch_functional.NPU_CROSS_ENTROPY_LOSS_AVAILABLE)


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_MV: Tensor, labels_M: Tensor, in_place: bool) -> Tensor:
        wide = torch.promote_types(logits_MV.dtype, torch.float32)
        lse_M = torch.empty(len(logits_MV), dtype=wide, device=logits_MV.device)
        # Nothing that stays is made between two chunks, which would keep an allocator from using a chunk's place again.
        for rows, lse in zip(*(x.split(_rows(logits_MV)) for x in (logits_MV, lse_M)), strict=True):
            torch.logsumexp(rows.to(wide), -1, out=lse)
        ctx.save_for_backward(logits_MV, labels_M, lse_M)
        ctx.in_place = in_place
        return logits_MV.gather(-1, labels_M[:, None])[:, 0].to(wide) - lse_M

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_M: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        logits_MV, labels_M, lse_M = ctx.saved_tensors
        grad_MV = logits_MV.detach() if ctx.in_place else torch.empty_like(logits_MV)
        of_rows = (x.split(_rows(logits_MV)) for x in (logits_MV, labels_M[:, None], lse_M[:, None], grad_M[:, None]))
        for logits, labels, lse, grad, found in zip(*of_rows, grad_MV.split(_rows(logits_MV)), strict=True):
            wide = torch.sub(logits, lse).exp_().mul_(-grad)  # in lse's precision
            found.copy_(wide.scatter_add_(-1, labels, grad.to(wide.dtype)))
        return grad_MV, None, None


def _rows(logits_MV: Tensor) -> int:
    return max(1, CHUNK_ENTRIES // logits_MV.shape[-1])
