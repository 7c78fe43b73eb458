"""Seconds from the command to the first training step on a machine without GPUs, in one run, alternating.

    python scripts/bench/start.py [--rounds 3]

Compared: workers forked from one process that has done their imports (verl_longrl.platform.zygote), which is what a run
does, and workers that each start as a new Python. Both are `python -m recipe.longrl.main` on the demo's data. A start
ends with the first step's line on the console, so it includes configuration, preflight, Ray, trainer ranks, vLLM and
that step. Each round has both, the first of them alternating; the figure is the median of the rounds' ratios. Writes
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

KINDS = {"new": [f"+{EXECUTABLE}={sys.executable}"], "forked": []}
FIRST_STEP = "step 1/"


def seconds_to_first_step(overrides: list[str], folder: Path) -> float:
    """One start; the run ends by itself after its step."""
    command = [sys.executable, "-m", "recipe.longrl.main", *overrides, f"longrl.output_dir={folder}"]
    command += ["hardware=cpu", "trainer.total_training_steps=1", "trainer.save_freq=-1", "trainer.test_freq=-1"]
    began, found, printed = time.monotonic(), None, []
    with subprocess.Popen(
        [*command, "trainer.val_before_train=false"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            printed.append(line)
            if found is None and line.startswith(FIRST_STEP):
                found = time.monotonic() - began
    if run.returncode or found is None:
        sys.exit("".join(printed[-40:]))
    return found


def main(
    rounds: Annotated[int, typer.Option(help="Starts of each kind, alternating.")] = 3,
    assets: Annotated[Path, typer.Option(help="The demo's assets.")] = Path("outputs/demo/assets"),
    output: Annotated[Path, typer.Option(help="Result file.")] = Path("docs/results/start.json"),
) -> None:
    """Measure and print the ratio."""
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for kind in list(KINDS) if number % 2 == 0 else list(KINDS)[::-1]:
                where = Path(folder) / f"{kind}-{number}"
                seconds[kind].append(seconds_to_first_step([*demo.overrides(assets.resolve()), *KINDS[kind]], where))
                print(f"round {number + 1}, {kind}: {seconds[kind][-1]:.1f} s", flush=True)
    ratios = [forked / new for new, forked in zip(seconds["new"], seconds["forked"], strict=True)]
    result = {
        "median_ratio": round(statistics.median(ratios), 3),
        "seconds": {kind: [round(value, 1) for value in values] for kind, values in seconds.items()},
        "command": f"python scripts/bench/start.py --rounds {rounds}",
    }
    output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    typer.run(main)
