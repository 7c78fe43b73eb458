"""Logits divided by the temperature, which is not rounded to their precision first: in bfloat16, 0.6 would be 0.6016.

Shapes: M rows of logits, V words.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def divided(logits_MV: Tensor, temperature: Tensor | float) -> Tensor:
    """(M, V), in the precision of the logits. temperature: one for all, or (M,) in float32."""
    if isinstance(temperature, Tensor):
        by_row: Tensor = _ByRow.apply(logits_MV, temperature[:, None])
        return by_row
    return logits_MV if temperature == 1 else logits_MV / temperature  # a Python scalar is not rounded


class _ByRow(torch.autograd.Function):
    """Into an output of the logits' precision: the operator alone would give a float32 copy of all logits, and of their
    gradient."""

    @staticmethod
    def forward(ctx: Any, logits_MV: Tensor, temperature_M1: Tensor) -> Tensor:
        ctx.save_for_backward(temperature_M1)
        return torch.div(logits_MV, temperature_M1, out=torch.empty_like(logits_MV))

    @staticmethod
    def backward(ctx: Any, grad_MV: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (temperature_M1,) = ctx.saved_tensors
        return torch.div(grad_MV, temperature_M1, out=torch.empty_like(grad_MV)), None
