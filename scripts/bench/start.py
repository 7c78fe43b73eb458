"""Benchmark start-up: seconds from the command to the first training step, with forked workers relative to new ones.

    python scripts/bench/start.py [--rounds 3]

Forked workers come from one process that has done their imports (verl_longrl.platform.zygote), as in every run without
GPUs; new workers each start a Python of their own. Both run `python -m recipe.longrl.main` on the demo's data, on a
machine without GPUs. A start ends with the first step's line on the console, so it includes configuration, preflight,
Ray, trainer ranks, vLLM and that step. Starts of both alternate; the result is the median of the rounds' ratios. Writes
docs/results/start.json.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from recipe.longrl.demo import run as demo
from recipe.longrl.worker_env import EXECUTABLE

VARIANTS = {"new": [f"+{EXECUTABLE}={sys.executable}"], "forked": []}
FIRST_STEP = "step 1/"


def seconds_to_first_step(overrides: list[str], folder: Path) -> float:
    """Start one run, which ends after its first step."""
    command = [sys.executable, "-m", "recipe.longrl.main", *overrides, f"longrl.output_dir={folder}"]
    command += ["hardware=cpu", "trainer.total_training_steps=1", "trainer.save_freq=-1", "trainer.test_freq=-1"]
    started, seconds, printed = time.monotonic(), None, []
    with subprocess.Popen(
        [*command, "trainer.val_before_train=false"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            printed.append(line)
            if seconds is None and line.startswith(FIRST_STEP):
                seconds = time.monotonic() - started
    if run.returncode or seconds is None:
        sys.exit("".join(printed[-40:]))
    return seconds


def main(
    rounds: Annotated[int, typer.Option(help="Starts of each variant, alternating.")] = 3,
    assets: Annotated[Path, typer.Option(help="Assets of the demo.")] = Path("outputs/demo/assets"),
    output: Annotated[Path, typer.Option(help="JSON file to write.")] = Path("docs/results/start.json"),
) -> None:
    """Run the benchmark, print the result and write the JSON."""
    seconds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for variant in list(VARIANTS) if number % 2 == 0 else list(VARIANTS)[::-1]:
                where = Path(folder) / f"{variant}-{number}"
                seconds[variant].append(
                    seconds_to_first_step([*demo.overrides(assets.resolve()), *VARIANTS[variant]], where)
                )
                print(f"round {number + 1}, {variant}: {seconds[variant][-1]:.1f} s", flush=True)
    ratios = [forked / new for new, forked in zip(seconds["new"], seconds["forked"], strict=True)]
    result = {
        "median_ratio": round(statistics.median(ratios), 3),
        "seconds": {variant: [round(value, 1) for value in values] for variant, values in seconds.items()},
        "command": f"python scripts/bench/start.py --rounds {rounds}",
    }
    output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    typer.run(main)
