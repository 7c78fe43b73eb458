"""torch's FlashAttention kernels, with the log-sum-exp and a backward that accepts a merged one.

Merging attention over two sets of keys (attention.py) needs both. The kernels have one interface. The segments of a row
(layout.Segments) lie one after another, and attention is causal within a segment or unrestricted:

    forward(q, k, v, pattern)                      -> out (Q, H, D), lse (H, Q) in float32 or wider
    backward(grad, activations, pattern)           -> gradients of q, k and v

- `CPU_KERNEL`: torch's CPU kernel, called once for each segment.
- `VARLEN_KERNEL`: the GPU kernel, called once for all segments, by the two operators beneath
  `torch.nn.attention.varlen.varlen_attn`. The public function cannot be used, because its backward takes its own output
  and log-sum-exp. We rely on the following, which we read in the Python sources of torch 2.11.0 and 2.13.0 (they agree)
  and in the CUDA sources of PyTorch's main branch (flash_api.cpp, attention_backward.cu): fewer key-value heads than
  query heads, with gradients for as many (the kernel's wrapper sums them from one for each query head); head sizes that
  are multiples of 8 up to 256; contiguous last dimensions; int32 ends; and a log-sum-exp that is read by its address
  and therefore must be contiguous.

Shapes: Q queries and S keys of all segments, L queries or keys of one segment; H, K and D as in attention.py.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from verl_longrl.engine.layout import Segments

_cpu_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_cpu_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

Gradients = tuple[Tensor, Tensor, Tensor]


class Pattern(NamedTuple):
    """Which keys a query attends to, and the factor of their products."""

    segments: Segments
    causal: bool
    scale: float


class Activations(NamedTuple):
    """A forward pass, as its backward needs it. lse: (H, Q), the log-sum-exp of each query's scores."""

    q_QHD: Tensor
    k_SKD: Tensor
    v_SKD: Tensor
    out_QHD: Tensor
    lse_HQ: Tensor


class Kernel(NamedTuple):
    """A forward and a backward function with the interface of the module's docstring."""

    forward: Callable[[Tensor, Tensor, Tensor, Pattern], tuple[Tensor, Tensor]]
    backward: Callable[[Tensor, Activations, Pattern], Gradients]


def _forward_on_cpu(q_QHD: Tensor, k_SKD: Tensor, v_SKD: Tensor, pattern: Pattern) -> tuple[Tensor, Tensor]:
    outs, lses = [], []
    for queries, keys in pattern.segments.slices:
        q, k, v = _heads_first(q_QHD[queries]), _heads_first(k_SKD[keys]), _heads_first(v_SKD[keys])
        # The kernel takes a batch of sequences, and the probability of dropout, which is 0 here.
        out_1HLD, lse_1HL = _cpu_forward(q, k, v, 0.0, pattern.causal, scale=pattern.scale)
        outs.append(out_1HLD)
        lses.append(lse_1HL[0])
    return _concatenate(outs), torch.cat(lses, dim=1)


def _backward_on_cpu(grad_QHD: Tensor, saved: Activations, pattern: Pattern) -> Gradients:
    dqs, dks, dvs = [], [], []
    for queries, keys in pattern.segments.slices:
        q, k, v = _heads_first(saved.q_QHD[queries]), _heads_first(saved.k_SKD[keys]), _heads_first(saved.v_SKD[keys])
        grad, out = _heads_first(grad_QHD[queries]), _heads_first(saved.out_QHD[queries])
        # The output and log-sum-exp of a merged attention cover all keys of a query. Given these, the kernel returns
        # the share of the gradient that comes from the keys of this segment.
        lse = saved.lse_HQ[None, :, queries].contiguous()
        dq, dk, dv = _cpu_backward(grad, q, k, v, out, lse, 0.0, pattern.causal, scale=pattern.scale)
        dqs.append(dq)
        dks.append(dk)
        dvs.append(dv)
    return _concatenate(dqs), _concatenate(dks), _concatenate(dvs)


def _heads_first(x_LHD: Tensor) -> Tensor:
    """(1, H, L, D), contiguous: one segment as the CPU kernel takes it."""
    return x_LHD.transpose(0, 1)[None].contiguous()


def _concatenate(segments: list[Tensor]) -> Tensor:
    """(Q, H, D): segments of (1, H, L, D), one after another."""
    return torch.cat([x_1HLD[0].transpose(0, 1) for x_1HLD in segments])


def _forward_varlen(q_QHD: Tensor, k_SKD: Tensor, v_SKD: Tensor, pattern: Pattern) -> tuple[Tensor, Tensor]:
    segments, causal, scale = pattern
    q, k, v = map(_last_contiguous, (q_QHD, k_SKD, v_SKD))
    # The third value is the random state of dropout.
    out, lse, _ = _varlen_operators()._varlen_attn(
        q, k, v, *segments.ends, *segments.longest, causal, scale, _window(causal)
    )
    return out, lse


def _backward_varlen(grad_QHD: Tensor, saved: Activations, pattern: Pattern) -> Gradients:
    segments, causal, scale = pattern
    q, k, v = map(_last_contiguous, saved[:3])
    grad, out, lse = grad_QHD.contiguous(), saved.out_QHD.contiguous(), saved.lse_HQ.contiguous()
    # The operator takes the random state of dropout, which is not used here: two numbers, seed and offset.
    no_dropout = torch.zeros(2, dtype=torch.uint64, device=q.device)
    with strictly_deterministic():
        dq, dk, dv = _varlen_operators()._varlen_attn_backward(
            grad, q, k, v, out, lse, *segments.ends, *segments.longest, causal, no_dropout, scale, _window(causal)
        )
    return dq, dk, dv


def _window(causal: bool) -> list[int]:
    """How many tokens a query sees to its left and to its right, as varlen_attn takes it; -1 for all."""
    return [-1, 0 if causal else -1]


def _last_contiguous(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _varlen_operators() -> Any:
    # The import registers the operators. It is not at the top because older versions of torch lack the module.
    import torch.nn.attention.varlen

    return torch.ops.torch_attn


CPU_KERNEL = Kernel(_forward_on_cpu, _backward_on_cpu)
VARLEN_KERNEL = Kernel(_forward_varlen, _backward_varlen)


def varlen_unsupported_reason(device: torch.device, dtype: torch.dtype, head_size: int) -> str | None:
    """Why VARLEN_KERNEL does not work for such queries, or None if it does."""
    # The checks in order: what this torch lacks, what the kernel cannot do, what the device cannot do.
    if importlib.util.find_spec("torch.nn.attention.varlen") is None:
        return f"torch {torch.__version__} has no torch.nn.attention.varlen"
    if not torch.backends.cuda.is_flash_attention_available():
        return f"torch {torch.__version__} is built without FlashAttention"
    if dtype not in (torch.float16, torch.bfloat16):
        return f"FlashAttention supports float16 and bfloat16, not {str(dtype).removeprefix('torch.')}"
    if head_size % 8 or head_size > 256:
        return f"FlashAttention supports head sizes that are multiples of 8 up to 256, not {head_size}"
    # 8.0 is an A100; a V100 has 7.0.
    capability = torch.cuda.get_device_capability(device)
    if capability < (8, 0):
        name = torch.cuda.get_device_name(device)
        return f"FlashAttention needs compute capability 8.0, {name} has {'.'.join(map(str, capability))}"
    return None


@contextmanager
def strictly_deterministic() -> Iterator[None]:
    """Make attention kernels deterministic wherever deterministic algorithms were requested, even with `warn_only`.

    torch's attention kernels have a deterministic backward, but use it only without `warn_only`, which verl's
    full_determinism sets. FlashAttention's deterministic backward needs more memory: a float32 gradient of the queries
    for each part into which the work is divided.
    """
    # Without deterministic algorithms, or with strict ones, nothing has to change.
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    if not (warn_only and torch.are_deterministic_algorithms_enabled()):
        yield
        return
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(True, warn_only=True)
