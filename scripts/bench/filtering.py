"""What carrying surplus groups saves, and what it costs: the same training three ways, on the demo's KeyChain world.

    python scripts/bench/filtering.py [--steps 10] [--rounds 1]

From one warm start, on rows of which the model answers many always (so that group filtering replaces them): surplus
groups thrown away, as verl does; carried over to the next step; and carried over with the rollout's own
probabilities as the old policy (rollout_correction.bypass_mode), which is what they were sampled from. Reported per
step: groups generated, of these filtered out, thrown away although they had signal, and used a step later; seconds; and
answers right of all that was sampled in the last three steps.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from verl_longrl.data.jsonl import read_jsonl
from verl_longrl.trainer.group_filtering import DISCARDED

from recipe.longrl.demo.build import build
from recipe.longrl.demo.keychain.build import KeychainBuild

BATCH = 16
FIRST = 2
"""The first step starts engines up and has nothing carried over; it is left out."""
WAYS = {
    "thrown_away": ["longrl.carry_steps=0"],
    "carried": ["longrl.carry_steps=1"],
    "carried_corrected": ["longrl.carry_steps=1", "algorithm.rollout_correction.bypass_mode=true"],
}


def train(assets: Path, folder: Path, way: list[str], steps: int) -> dict[str, float]:
    """One run; means over its steps but the first."""
    files = f"[{assets / 'plain.parquet'},{assets / 'keychain.parquet'}]"
    command = [sys.executable, "-m", "recipe.longrl.main", "method=loongrl", "model=demo_keychain", "hardware=cpu"]
    command += [f"data.train_files={files}", f"data.val_files=[{assets / 'val.parquet'}]"]
    command += [f"actor_rollout_ref.model.path={assets / 'model'}", f"longrl.output_dir={folder}", *way]
    command += [f"trainer.total_training_steps={steps}", "trainer.val_before_train=false"]
    command += ["trainer.test_freq=-1", "trainer.save_freq=-1", "longrl.export=false"]
    with (folder.parent / f"{folder.name}.txt").open("w") as console:
        subprocess.run(
            command, check=True, stdout=console, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
    rows = [row for row in read_jsonl(folder / "metrics.jsonl") if row["split"] == "train" and row["step"] >= FIRST]

    def mean(name: str) -> float:
        return float(np.mean([row.get(name, 0.0) for row in rows]))

    return {
        "generated": BATCH + mean("group/filtered") + mean(DISCARDED),
        "filtered": mean("group/filtered"),
        "thrown_away": mean(DISCARDED),
        "carried": mean("group/carried_over"),
        "generation_s": mean("timing_s/gen"),
        "step_s": mean("timing_s/step"),
        "answers_at_the_end": float(np.mean([row["sampled/answer"] for row in rows[-3:]])),
    }


def main(
    steps: Annotated[int, typer.Option(help="Steps of each run.")] = 10,
    rounds: Annotated[int, typer.Option(help="Runs of each kind, in turns.")] = 1,
    folder: Annotated[Path, typer.Option(help="Where the runs are kept.")] = Path("outputs/bench_filtering"),
    results: Annotated[Path, typer.Option(help="Where the result goes.")] = Path("docs/results/filtering.json"),
) -> None:
    """Measure and write the result."""
    assets = build(KeychainBuild(), folder / "assets")
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for number in range(rounds):
        for way, overrides in WAYS.items():
            runs[way].append(train(assets, folder / f"{way}-{number}", overrides, steps))
            print(way, {name: round(value, 2) for name, value in runs[way][-1].items()}, flush=True)
    means = {way: {name: float(np.mean([run[name] for run in own])) for name in own[0]} for way, own in runs.items()}
    command = f"python scripts/bench/filtering.py --steps {steps} --rounds {rounds}"
    results.write_text(json.dumps({"command": command, "batch": BATCH, "means": means, "runs": runs}, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
