"""Benchmark log-probabilities of labels from bfloat16 logits: time and peak memory of verl's fallback and of ours.

verl uses its fallback if flash-attn is not installed. Each implementation runs forward and backward in a separate
process. Reported are seconds, and MiB of resident memory (VmHWM) in addition to the logits.

    python scripts/bench/log_probs.py --rows 4096 --words 152064
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

IMPLEMENTATIONS = ("upstream", "ours")


def compute(implementation: str, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(M,): log-probs of labels (M,), from logits (M, V), by one of IMPLEMENTATIONS."""
    from verl.utils.torch_functional import logprobs_from_logits_v2
    from verl_longrl.engine.log_probs import compute_log_probs

    if implementation == "upstream":
        return logprobs_from_logits_v2(logits, labels)
    return compute_log_probs(logits, labels, in_place=True)


def measure(implementation: str, rows: int, words: int) -> dict[str, float]:
    """Seconds of a forward and a backward pass, and the peak MiB in addition to the logits."""
    # A first small call, so that loading code is not measured.
    compute(implementation, torch.zeros(2, words, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.long))
    torch.manual_seed(0)
    labels = torch.randint(words, (rows,))
    logits = torch.empty(rows, words, dtype=torch.bfloat16).normal_().requires_grad_()
    # Resets VmHWM to the current resident memory.
    Path("/proc/self/clear_refs").write_text("5")
    before, started = _resident_mib("VmRSS"), time.perf_counter()
    torch.autograd.grad(compute(implementation, logits, labels).sum(), logits)
    return {"seconds": time.perf_counter() - started, "mib": _resident_mib("VmHWM") - before}


def _resident_mib(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def main(
    rows: Annotated[int, typer.Option(help="Response tokens.")] = 4096,
    words: Annotated[int, typer.Option(help="Vocabulary entries.")] = 152064,
    implementation: Annotated[str | None, typer.Option(hidden=True, help="Measure one in this process.")] = None,
) -> None:
    """Run both implementations and print their figures."""
    if implementation is not None:
        print(json.dumps(measure(implementation, rows, words)))
        return
    print(f"{rows:,} rows of {words:,} words in bfloat16: logits of {rows * words * 2 / 2**20:,.0f} MiB")
    for name in IMPLEMENTATIONS:
        command = [sys.executable, __file__, "--rows", str(rows), "--words", str(words), "--implementation", name]
        figures = json.loads(
            subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
        )
        print(
            f"{name:>8}: {figures['seconds']:6.1f} s, {figures['mib']:7,.0f} MiB in addition to the logits", flush=True
        )


if __name__ == "__main__":
    typer.run(main)
