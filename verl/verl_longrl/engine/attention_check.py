"""Run the attention that a training run will use, forward and backward, and compare it with dense attention in float64.

    python -m verl_longrl.engine.attention_check [DEVICE]      default: cuda if there is a GPU, otherwise cpu

Needs torch alone, neither verl nor Ray.
"""

from __future__ import annotations

import argparse
import sys
from typing import NamedTuple

import torch
from torch import Tensor

from verl_longrl.engine.attention import Backend, attend, choose_backend
from verl_longrl.engine.layout import Group, Layout

GROUPS = (Group(1, (2, 1)), Group(130, (40, 1, 67)), Group(64, (33,)))
"""Several groups, odd lengths, and more tokens than one block of a kernel."""

HALF_TOLERANCE, FLOAT_TOLERANCE = 8, 64
"""Largest accepted error, relative to the largest value, in units of the dtype's epsilon: for 16 bits, where only whole
sums are rounded, and for wider types, where every term of a sum is."""


class AttentionCheckResult(NamedTuple):
    """The outcome of try_attention."""

    backend: str
    """The backend and why it was chosen, as a message for users, or "none"."""

    forward_error: float
    """Largest difference of the output from dense attention, divided by the largest value."""

    backward_error: float
    """The same of the gradients of queries, keys and values."""

    problem: str | None
    """Why the device cannot be used for training, as a message for users, or None if it can."""


def try_attention(
    device: str, dtype: torch.dtype = torch.bfloat16, heads: int = 4, kv_heads: int = 2, head_size: int = 128
) -> AttentionCheckResult:
    """Run one forward and backward pass on a device, by torch's name: cpu, cuda, cuda:1."""
    nan = float("nan")
    try:
        backend, reason = choose_backend(torch.device(device), dtype, head_size)
    except (RuntimeError, ValueError, AssertionError) as error:
        # AssertionError: torch is not built for the device.
        return AttentionCheckResult("none", nan, nan, str(error))
    description = f"{backend}: {reason}"
    try:
        forward, backward = relative_errors(Layout(GROUPS, device), backend, dtype, heads, kv_heads, head_size)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        # RuntimeError: from CUDA. TypeError, AttributeError: the operators of another version of torch.
        problem = f"{backend} on {device} fails: {type(error).__name__}: {error}"
        return AttentionCheckResult(description, nan, nan, problem)
    limit = (HALF_TOLERANCE if dtype.itemsize == 2 else FLOAT_TOLERANCE) * torch.finfo(dtype).eps
    # Not `max(...) > limit`, which is false for nan.
    if not max(forward, backward) <= limit:
        problem = (
            f"{backend} on {device} is wrong: relative errors of {forward:.1e} (forward) and {backward:.1e} "
            f"(backward), expected at most {limit:.1e}"
        )
        return AttentionCheckResult(description, forward, backward, problem)
    return AttentionCheckResult(description, forward, backward, None)


def relative_errors(
    layout: Layout, backend: Backend, dtype: torch.dtype, heads: int, kv_heads: int, head_size: int
) -> tuple[float, float]:
    """Forward and backward error of a backend on the layout's device, with random inputs (see AttentionCheckResult)."""
    generator = torch.Generator().manual_seed(0)
    scale = head_size**-0.5
    *inputs, grad = (
        torch.randn(layout.tokens, n_heads, head_size, generator=generator).to(dtype)
        for n_heads in (heads, kv_heads, kv_heads, heads)
    )
    # Both sides begin with the same rounded numbers, so a difference is an error of the computation alone.
    q, k, v = exact_inputs = [x.to(torch.float64, copy=True).requires_grad_() for x in inputs]
    expected = dense_attention(q, k, v, layout, scale)
    expected_grads = torch.autograd.grad(expected, exact_inputs, grad.double())

    q, k, v = device_inputs = [x.to(layout.device).requires_grad_() for x in inputs]
    actual = attend(q, k, v, layout, scale, backend)
    actual_grads = torch.autograd.grad(actual, device_inputs, grad.to(layout.device))

    grad_errors = [_relative_error(a, b) for a, b in zip(actual_grads, expected_grads, strict=True)]
    return _relative_error(actual, expected), max(grad_errors)


def dense_attention(q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, layout: Layout, scale: float) -> Tensor:
    """(T, H, D): the attention of a packed row by its definition, with all (T, T) scores and a mask, as a reference."""
    # With 4 query heads and 2 key-value heads, query heads 0 and 1 read key-value head 0.
    copies = q_THD.shape[1] // k_TKD.shape[1]
    k_THD, v_THD = (x.repeat_interleave(copies, 1) for x in (k_TKD, v_TKD))
    q_HTD, k_HTD, v_HTD = (x.transpose(0, 1) for x in (q_THD, k_THD, v_THD))
    mask_TT = attention_mask(layout).to(q_THD.device)
    scores_HTT = (q_HTD @ k_HTD.mT * scale).masked_fill(~mask_TT, -torch.inf)
    return (scores_HTT.softmax(-1) @ v_HTD).transpose(0, 1)


def attention_mask(layout: Layout) -> Tensor:
    """(T, T) bool: whether the token of a row attends to the token of a column."""
    # (number of the group, number of the segment within it), where segment 0 is the prompt.
    segments: list[tuple[int, int]] = []
    for number, (_, responses) in enumerate(layout.groups):
        segments += [(number, segment) for segment in range(len(responses) + 1)]
    lengths = torch.tensor(layout.self_segments.queries)
    group_T, segment_T = torch.tensor(segments).repeat_interleave(lengths, 0).unbind(1)
    same_segment_or_prompt = (segment_T[:, None] == segment_T) | (segment_T == 0)
    # tril: no token attends to a later one, within a segment nor beyond it.
    return ((group_T[:, None] == group_T) & same_segment_or_prompt).tril()


def _relative_error(actual: Tensor, expected: Tensor) -> float:
    return ((actual.detach().cpu().double() - expected).abs().max() / expected.abs().max()).item()


def main() -> int:
    """Run the command. Returns the exit status: 1 if there is a problem."""
    parser = argparse.ArgumentParser(
        prog="python -m verl_longrl.engine.attention_check", description=(__doc__ or "").split("\n", 1)[0]
    )
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("device", nargs="?", default=default, help="cpu, cuda, cuda:1, ... (default: %(default)s)")
    result = try_attention(parser.parse_args().device)
    print(f"{result.backend}\nforward error {result.forward_error:.1e}, backward error {result.backward_error:.1e}")
    print(result.problem or "ok")
    return 1 if result.problem else 0


if __name__ == "__main__":
    sys.exit(main())
