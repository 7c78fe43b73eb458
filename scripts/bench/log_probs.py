"""Log-probabilities of labels from bfloat16 logits: time and peak memory of verl's fallback and of LongRL's.

verl's is what verl does where flash-attn is not installed. Each runs forward and backward in a process of its own:
seconds, and MiB of resident memory (VmHWM) beside the logits.

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

WAYS = ("upstream", "ours")


def compute(way: str, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(M,): by one of WAYS."""
    from verl.utils.torch_functional import logprobs_from_logits_v2
    from verl_longrl.engine.log_probs import log_probs

    return logprobs_from_logits_v2(logits, labels) if way == "upstream" else log_probs(logits, labels, in_place=True)


def measure(way: str, rows: int, words: int) -> dict[str, float]:
    """Seconds of a forward and a backward pass, MiB at the most beside the logits."""
    compute(way, torch.zeros(2, words, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.long))  # loads code
    torch.manual_seed(0)
    labels = torch.randint(words, (rows,))
    logits = torch.empty(rows, words, dtype=torch.bfloat16).normal_().requires_grad_()
    Path("/proc/self/clear_refs").write_text("5")  # the highest resident memory becomes the present one
    before, started = _resident("VmRSS"), time.perf_counter()
    torch.autograd.grad(compute(way, logits, labels).sum(), logits)
    return {"seconds": time.perf_counter() - started, "mib": _resident("VmHWM") - before}


def _resident(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def main(
    rows: Annotated[int, typer.Option(help="Response tokens.")] = 4096,
    words: Annotated[int, typer.Option(help="Of the vocabulary.")] = 152064,
    way: Annotated[str | None, typer.Option(hidden=True, help="Measure this one here.")] = None,
) -> None:
    """Measure both and print."""
    if way is not None:
        print(json.dumps(measure(way, rows, words)))
        return
    print(f"{rows:,} rows of {words:,} words in bfloat16: logits of {rows * words * 2 / 2**20:,.0f} MiB")
    for each in WAYS:
        command = [sys.executable, __file__, "--rows", str(rows), "--words", str(words), "--way", each]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        print(f"{each:>8}: {found['seconds']:6.1f} s, {found['mib']:7,.0f} MiB beside the logits", flush=True)


if __name__ == "__main__":
    typer.run(main)
