"""Divide logits by a temperature that is not rounded to their precision first.

In bfloat16 a temperature of 0.6 would be rounded to 0.6016. Shapes: M rows of logits, V vocabulary entries.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def divide_by_temperature(logits_MV: Tensor, temperature: Tensor | float) -> Tensor:
    """(M, V), in the precision of the logits. temperature: one for all rows, or (M,) in float32."""
    if isinstance(temperature, Tensor):
        divided_MV: Tensor = _DivideRows.apply(logits_MV, temperature[:, None])
        return divided_MV
    # torch does not round a Python number to the precision of the tensor.
    return logits_MV if temperature == 1 else logits_MV / temperature


class _DivideRows(torch.autograd.Function):
    """Writes into an output of the logits' precision.

    The plain operator would make a float32 copy of all logits, and another one of their gradient.
    """

    @staticmethod
    def forward(ctx: Any, logits_MV: Tensor, temperature_M1: Tensor) -> Tensor:
        ctx.save_for_backward(temperature_M1)
        return torch.div(logits_MV, temperature_M1, out=torch.empty_like(logits_MV))

    @staticmethod
    def backward(ctx: Any, grad_MV: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (temperature_M1,) = ctx.saved_tensors
        return torch.div(grad_MV, temperature_M1, out=torch.empty_like(grad_MV)), None
