"""The attention that a run will use, tried on a device: forward and backward against dense attention in float64.

    python -m verl_longrl.engine.attention_check [DEVICE]      cuda where there is a GPU

Needs torch alone, no verl and no Ray.
"""

from __future__ import annotations

import argparse
import sys
from typing import NamedTuple

import torch
from torch import Tensor

from verl_longrl.engine.attention import Way, attend, best_way
from verl_longrl.engine.layout import Group, Layout

GROUPS = (Group(1, (2, 1)), Group(130, (40, 1, 67)), Group(64, (33,)))
"""Several groups, odd lengths, more than one block of a kernel."""

HALF, WIDER = 8, 64
"""Largest error over the largest value, in units of the dtype's precision, in 16 bits and in more: whole sums are
rounded to 16 bits, and every term of them to more."""


class Trial(NamedTuple):
    """What was found.

    way: the way tried, in words, or "none". errors: the largest difference over the largest value, of the output, and
    of the gradients of queries, keys and values. problem: None, or why the device cannot train with it, for people.
    """

    way: str
    forward_error: float
    backward_error: float
    problem: str | None


def try_attention(
    device: str, dtype: torch.dtype = torch.bfloat16, heads: int = 4, kv_heads: int = 2, head_size: int = 128
) -> Trial:
    """One forward and backward pass on the device, which may be any that torch names: cpu, cuda, cuda:1."""
    nan = float("nan")
    try:
        way, reason = best_way(torch.device(device), dtype, head_size)
    except (RuntimeError, ValueError, AssertionError) as error:  # torch asserts that it is built for the device
        return Trial("none", nan, nan, str(error))
    said = f"{way}: {reason}"
    try:
        forward, backward = errors(Layout(GROUPS, device), way, dtype, heads, kv_heads, head_size)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:  # of CUDA; of another version's operators
        return Trial(said, nan, nan, f"{way} on {device} fails: {type(error).__name__}: {error}")
    limit, problem = (HALF if dtype.itemsize == 2 else WIDER) * torch.finfo(dtype).eps, None
    if not max(forward, backward) <= limit:  # nan is no number below a limit
        problem = (
            f"{way} on {device} is wrong: relative errors of {forward:.1e} (forward) and {backward:.1e} (backward), "
            f"expected at most {limit:.1e}"
        )
    return Trial(said, forward, backward, problem)


def errors(
    layout: Layout, way: Way, dtype: torch.dtype, heads: int, kv_heads: int, head_size: int
) -> tuple[float, float]:
    """Of a way on the layout's device (see Trial), with random numbers."""
    generator = torch.Generator().manual_seed(0)
    scale = head_size**-0.5
    *drawn, grad = (
        torch.randn(layout.tokens, of, head_size, generator=generator).to(dtype)
        for of in (heads, kv_heads, kv_heads, heads)
    )
    q, k, v = exact = [x.to(torch.float64, copy=True).requires_grad_() for x in drawn]
    wanted = dense(q, k, v, layout, scale)
    q, k, v = mine = [x.to(layout.device).requires_grad_() for x in drawn]
    found = attend(q, k, v, layout, scale, way)
    gradients = (
        torch.autograd.grad(found, mine, grad.to(layout.device)),
        torch.autograd.grad(wanted, exact, grad.double()),
    )
    return _error(found, wanted), max(_error(of, to) for of, to in zip(*gradients, strict=True))


def dense(q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, layout: Layout, scale: float) -> Tensor:
    """(T, H, D): the same attention by its definition, with all (T, T) scores and a mask. What others are compared
    with."""
    copies = q_THD.shape[1] // k_TKD.shape[1]
    q, k, v = (x.transpose(0, 1) for x in (q_THD, *(x.repeat_interleave(copies, 1) for x in (k_TKD, v_TKD))))
    return ((q @ k.mT * scale).masked_fill(~allowed(layout).to(q.device), -torch.inf).softmax(-1) @ v).transpose(0, 1)


def allowed(layout: Layout) -> Tensor:
    """(T, T) bool: whether a token attends to another one."""
    kinds = [(g, r) for g, (_, responses) in enumerate(layout.groups) for r in range(len(responses) + 1)]
    group, response = torch.tensor(kinds).repeat_interleave(torch.tensor(layout.own.queries), 0).unbind(1)
    same = (group[:, None] == group) & ((response[:, None] == response) | (response == 0))
    return same.tril()


def _error(found: Tensor, wanted: Tensor) -> float:
    return ((found.detach().cpu().double() - wanted).abs().max() / wanted.abs().max()).item()


def main() -> int:
    """The exit status: 1 when there is a problem."""
    parser = argparse.ArgumentParser(
        prog="python -m verl_longrl.engine.attention_check", description=(__doc__ or "").split("\n", 1)[0]
    )
    best = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument(
        "device", nargs="?", default=best, help="cpu, cuda, cuda:1 and the like; here by default: %(default)s"
    )
    trial = try_attention(parser.parse_args().device)
    print(f"{trial.way}\nforward error {trial.forward_error:.1e}, backward error {trial.backward_error:.1e}")
    print(trial.problem or "ok")
    return 1 if trial.problem else 0


if __name__ == "__main__":
    sys.exit(main())
