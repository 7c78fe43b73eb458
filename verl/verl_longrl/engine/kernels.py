"""torch's FlashAttention kernels with what merging needs of them: the log-sum-exp, and a backward that is given one.

Both have one interface, segments one after another in a row (layout.Segments), causal within a segment or not at all:

    forward(q, k, v, segments, causal, scale)                       -> out (T, H, D), lse (H, T) float32 or wider
    backward(grad, q, k, v, out, lse, segments, causal, scale)      -> gradients of q, k and v

- `CPU`: one call of the CPU's kernel for each segment.
- `VARLEN`: one call of the GPU's for all of them, by the two operators under `torch.nn.attention.varlen.varlen_attn`.
  The function itself cannot be used: its backward takes its own output and log-sum-exp. What is relied on was read in
  the Python sources of torch 2.11.0 and 2.13.0, which agree, and in the CUDA sources of PyTorch's main branch
  (flash_api.cpp, attention_backward.cu): fewer key-value heads than query heads, gradients for as many (summed in the
  kernel's wrapper from one for each query head), head sizes that are multiples of 8 up to 256, contiguous last
  dimensions, int32 ends, and a log-sum-exp read by its address, which therefore must be contiguous.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from verl_longrl.engine.layout import Segments

_cpu_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_cpu_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Kernel(NamedTuple):
    """See the module's docstring."""

    forward: Callable[[Tensor, Tensor, Tensor, Segments, bool, float], tuple[Tensor, Tensor]]
    backward: Callable[
        [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Segments, bool, float], tuple[Tensor, Tensor, Tensor]
    ]


def _forward_on_cpu(
    q: Tensor, k: Tensor, v: Tensor, segments: Segments, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    found = [_cpu_forward(*parts, 0.0, causal, scale=scale) for parts in _cut(segments, (q, k, v))]
    return _joined(out for out, _ in found), torch.cat([lse[0] for _, lse in found], dim=1)


def _backward_on_cpu(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    segments: Segments,
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    found = [
        _cpu_backward(grad, q, k, v, out, lse[..., 0], 0.0, causal, scale=scale)
        for q, k, v, grad, out, lse in _cut(segments, (q, k, v, grad, out, lse.mT[..., None]))
    ]
    dq, dk, dv = (_joined(parts) for parts in zip(*found, strict=True))
    return dq, dk, dv


def _cut(segments: Segments, tensors: tuple[Tensor, ...]) -> Iterator[list[Tensor]]:
    """Each segment of queries, keys, values and what goes with queries, as (1, H, L, D)."""
    of_queries, of_keys = (
        [slice(*ends) for ends in itertools.pairwise((0, *itertools.accumulate(lengths)))]
        for lengths in (segments.queries, segments.keys)
    )
    for queries, keys in zip(of_queries, of_keys, strict=True):
        parts = [queries, keys, keys, *[queries] * (len(tensors) - 3)]
        yield [x[part].transpose(0, 1)[None].contiguous() for x, part in zip(tensors, parts, strict=True)]


def _joined(parts: Any) -> Tensor:
    """Segments (1, H, L, D) as (T, H, D)."""
    return torch.cat([part[0].transpose(0, 1) for part in parts])


def _forward_varlen(
    q: Tensor, k: Tensor, v: Tensor, segments: Segments, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    how = (*segments.ends, *segments.longest, causal, scale, _window(causal))
    out, lse, _ = _varlen()._varlen_attn(*map(_last_contiguous, (q, k, v)), *how)
    return out, lse


def _backward_varlen(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    segments: Segments,
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    no_dropout = torch.zeros(2, dtype=torch.uint64, device=q.device)
    how = (*segments.ends, *segments.longest, causal, no_dropout, scale, _window(causal))
    given = (grad.contiguous(), *map(_last_contiguous, (q, k, v)), out.contiguous(), lse.contiguous())
    with strictly_deterministic():
        dq, dk, dv = _varlen()._varlen_attn_backward(*given, *how)
    return dq, dk, dv


def _window(causal: bool) -> list[int]:
    """As varlen_attn has it: tokens to the left and to the right, -1 for all."""
    return [-1, 0 if causal else -1]


def _last_contiguous(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _varlen() -> Any:
    import torch.nn.attention.varlen  # registers the operators

    return torch.ops.torch_attn


CPU = Kernel(_forward_on_cpu, _backward_on_cpu)
VARLEN = Kernel(_forward_varlen, _backward_varlen)


def varlen_problem(device: torch.device, dtype: torch.dtype, head_size: int) -> str | None:
    """Why VARLEN does not work for these queries, or None."""
    if importlib.util.find_spec("torch.nn.attention.varlen") is None:
        return f"torch {torch.__version__} has no torch.nn.attention.varlen"
    if not torch.backends.cuda.is_flash_attention_available():
        return f"torch {torch.__version__} is built without FlashAttention"
    if dtype not in (torch.float16, torch.bfloat16):
        return f"FlashAttention computes in float16 or bfloat16, not in {str(dtype).removeprefix('torch.')}"
    if head_size % 8 or head_size > 256:
        return f"FlashAttention takes heads of a multiple of 8 up to 256, not of {head_size}"
    capability = torch.cuda.get_device_capability(device)
    if capability < (8, 0):
        return f"FlashAttention needs compute capability 8.0, {torch.cuda.get_device_name(device)} has " + ".".join(
            map(str, capability)
        )
    return None


@contextmanager
def strictly_deterministic() -> Iterator[None]:
    """Where deterministic algorithms are asked for, also those of attention.

    torch's attention kernels have a deterministic backward, and take it only without `warn_only`, which verl's
    full_determinism sets. FlashAttention's needs more memory: a float32 gradient of the queries for each part that the
    work is divided into.
    """
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    if not (warn_only and torch.are_deterministic_algorithms_enabled()):
        yield
        return
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(True, warn_only=True)
