"""Benchmark the linear layers of a model on the CPU: packed weights in decoding, and bfloat16 over float32.

    python scripts/bench/cpu_linear.py [--threads 2] [--output docs/results/cpu_linear.json]

The layers are those of SmolLM2-135M (qkv, gate and up, down, head). For 1 to 512 rows, rounds of `LiveLinear`, of plain
`torch.nn.functional.linear` in float32 and of the same in bfloat16 alternate. A ratio is the median over rounds of the
time of one over that of plain float32. `LiveLinear` packs its weight once, before the rounds.
"""

import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

SHAPES = {"qkv": (576, 960), "gate and up": (576, 3072), "down": (1536, 576), "head": (576, 49152)}
"""Layer -> inputs, outputs."""
ROWS = (1, 8, 24, 48, 512)
ROUND_S = 0.05
"""At least so many seconds of each kind in a round."""


def seconds(call: Callable[[], Any]) -> float:
    """Seconds of one call, over a round."""
    started, calls = time.perf_counter(), 0
    while (spent := time.perf_counter() - started) < ROUND_S:
        call()
        calls += 1
    return spent / calls


def main(
    threads: Annotated[int, typer.Option(help="Threads of a matrix product.")] = 2,
    rounds: Annotated[int, typer.Option(help="Rounds of each size.")] = 9,
    output: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """Measure, print, and write the JSON."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch
    from torch.nn.functional import linear
    from verl_longrl.platform.vllm_cpu import LiveLinear
    from vllm.platforms import current_platform

    current_platform.import_kernels()
    torch.set_num_threads(threads)
    result: dict[str, Any] = {"threads": threads, "torch": torch.__version__, "packed": {}, "bfloat16": {}}
    for name, (inputs, outputs) in SHAPES.items():
        weight, layer = torch.randn(outputs, inputs), LiveLinear()
        half = weight.bfloat16()
        for rows in ROWS:
            x = torch.randn(rows, inputs)
            kinds = {
                "packed": partial(layer, x, weight),
                "plain": partial(linear, x, weight),
                "bfloat16": partial(linear, x.bfloat16(), half),
            }
            times = {kind: [seconds(call)] for kind, call in kinds.items()}
            for _ in range(rounds):
                for kind, call in kinds.items():
                    times[kind].append(seconds(call))
            for kind in ("packed", "bfloat16"):
                pairs = zip(times[kind][1:], times["plain"][1:], strict=True)
                ratio = round(statistics.median(a / b for a, b in pairs), 2)
                result[kind].setdefault(name, {})[rows] = ratio
        print(f"{name}: packed {result['packed'][name]}, bfloat16 {result['bfloat16'][name]}", flush=True)
    if output is not None:
        output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
