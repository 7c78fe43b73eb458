"""Log-probabilities of labels, exact and in little memory, with or without flash-attn.

verl's `logprobs_from_logits` uses flash-attn's cross entropy if it is installed. If not, it loops over the rows in
Python, rounds the log-probability of a bfloat16 row to bfloat16, and keeps a second copy of the logits for the backward
pass. The function here does the same as flash-attn's kernel: it computes in float32, keeps the logits and one number
per row, and can write the gradient into the logits.

Shapes: M rows of logits, V vocabulary entries.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from verl.utils import torch_functional

CHUNK_ENTRIES = 2**22
"""Logits converted to float32 at a time: 16 MiB for each temporary tensor."""


def compute_log_probs(logits_MV: Tensor, labels_M: Tensor, in_place: bool) -> Tensor:
    """(M,): the log-probability of each row's label, in float32 or wider.

    in_place: the backward pass may write the gradient into the logits. Nothing else may read them after it.
    """
    if _verl_has_kernel():
        by_kernel_M: Tensor = torch_functional.logprobs_from_logits(logits_MV, labels_M, inplace_backward=in_place)
        return by_kernel_M
    by_chunks_M: Tensor = _ChunkedLogProbs.apply(logits_MV, labels_M, in_place)
    return by_chunks_M


def _verl_has_kernel() -> bool:
    """Whether verl would use a fused kernel, by its own rule (VERL_DISABLE_FLASH_ATTN_CE included)."""
    flash = torch_functional.FLAH_ATTN_CROSS_ENTROPY_LOSS_AVAILABLE
    if flash and os.environ.get("VERL_DISABLE_FLASH_ATTN_CE", "0") != "1":
        return True
    return bool(not flash and torch_functional.NPU_CROSS_ENTROPY_LOSS_AVAILABLE)


class _ChunkedLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_MV: Tensor, labels_M: Tensor, in_place: bool) -> Tensor:
        """(M,)"""
        wide = torch.promote_types(logits_MV.dtype, torch.float32)
        lse_M = torch.empty(len(logits_MV), dtype=wide, device=logits_MV.device)
        # Allocate nothing that outlives a chunk between two chunks: the allocator could not reuse a chunk's memory.
        for logits, lse in zip(*(x.split(_chunk_rows(logits_MV)) for x in (logits_MV, lse_M)), strict=True):
            torch.logsumexp(logits.to(wide), -1, out=lse)
        ctx.save_for_backward(logits_MV, labels_M, lse_M)
        ctx.in_place = in_place
        return logits_MV.gather(-1, labels_M[:, None])[:, 0].to(wide) - lse_M

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_M: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        """(M, V): grad * (one_hot(label) - softmax(logits)) for each row."""
        logits_MV, labels_M, lse_M = ctx.saved_tensors
        # In place, each chunk of the gradient replaces the logits from which it was computed; nothing reads them again.
        grad_MV = logits_MV.detach() if ctx.in_place else torch.empty_like(logits_MV)
        rows = _chunk_rows(logits_MV)
        chunks = (x.split(rows) for x in (logits_MV, labels_M[:, None], lse_M[:, None], grad_M[:, None], grad_MV))
        for logits, labels, lse, grad, result in zip(*chunks, strict=True):
            # The subtraction gives a new tensor in lse's precision, so `result` may share the logits' memory.
            wide = torch.sub(logits, lse).exp_().mul_(-grad)
            result.copy_(wide.scatter_add_(-1, labels, grad.to(wide.dtype)))
        return grad_MV, None, None


def _chunk_rows(logits_MV: Tensor) -> int:
    return max(1, CHUNK_ENTRIES // logits_MV.shape[-1])
