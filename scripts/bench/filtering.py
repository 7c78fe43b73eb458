"""Benchmark surplus groups kept for the next step: seconds per step and groups generated, relative to discarding them.

    python scripts/bench/filtering.py [--steps 10] [--rounds 1]

Trains the demo's KeyChain model three times from one warm start, on rows of which the model always answers many, so
that group filtering replaces them. Surplus groups are discarded, as in verl; kept for the next step; or kept, with the
rollout's own probabilities, from which they were sampled, as the old policy (rollout_correction.bypass_mode).

Reported per step: groups generated, filtered out, discarded although they had a signal, and used one step later;
seconds; and the fraction of right answers among all responses sampled in the last three steps. Writes
docs/results/filtering.json.
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
from verl_longrl.trainer.group_filtering import DISCARDED
from verl_longrl.trainer.metrics_log import iterate_metrics

from recipe.longrl.demo.assets import build_assets
from recipe.longrl.demo.keychain.build import KeychainBuild

BATCH = 16
FIRST_STEP = 2
"""Step 1 includes the start of the engines and has no groups from an earlier step, so it is not counted."""
VARIANTS = {
    "discarded": ["longrl.carry_steps=0"],
    "kept": ["longrl.carry_steps=1"],
    "kept_corrected": ["longrl.carry_steps=1", "algorithm.rollout_correction.bypass_mode=true"],
}


def train(assets: Path, folder: Path, overrides: list[str], steps: int) -> dict[str, float]:
    """Train once. Returns means over all steps but the first."""
    files = f"[{assets / 'plain.parquet'},{assets / 'keychain.parquet'}]"
    command = [sys.executable, "-m", "recipe.longrl.main", "method=loongrl", "model=demo_keychain", "hardware=cpu"]
    command += [f"data.train_files={files}", f"data.val_files=[{assets / 'val.parquet'}]"]
    command += [f"actor_rollout_ref.model.path={assets / 'model'}", f"longrl.output_dir={folder}", *overrides]
    command += [f"trainer.total_training_steps={steps}", "trainer.val_before_train=false"]
    command += ["trainer.test_freq=-1", "trainer.save_freq=-1", "longrl.export=false"]
    with (folder.parent / f"{folder.name}.txt").open("w") as console:
        subprocess.run(
            command, check=True, stdout=console, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
    rows = [
        row
        for row in iterate_metrics(folder / "metrics.jsonl")
        if row["split"] == "train" and row["step"] >= FIRST_STEP
    ]

    def mean(name: str) -> float:
        return float(np.mean([row.get(name, 0.0) for row in rows]))

    return {
        "generated": BATCH + mean("group/filtered") + mean(DISCARDED),
        "filtered": mean("group/filtered"),
        "discarded": mean(DISCARDED),
        "kept": mean("group/carried_over"),
        "generation_s": mean("timing_s/gen"),
        "step_s": mean("timing_s/step"),
        "answers_at_the_end": float(np.mean([row["reward_before_filter/answer"] for row in rows[-3:]])),
    }


def main(
    steps: Annotated[int, typer.Option(help="Steps of each run.")] = 10,
    rounds: Annotated[int, typer.Option(help="Runs of each variant, alternating.")] = 1,
    folder: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("outputs/bench_filtering"),
    results: Annotated[Path, typer.Option(help="JSON file to write.")] = Path("docs/results/filtering.json"),
) -> None:
    """Run the benchmark and write the JSON."""
    assets = build_assets(KeychainBuild(), folder / "assets")
    runs: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
    for number in range(rounds):
        for variant, overrides in VARIANTS.items():
            runs[variant].append(train(assets, folder / f"{variant}-{number}", overrides, steps))
            print(variant, {name: round(value, 2) for name, value in runs[variant][-1].items()}, flush=True)
    means = {}
    for variant, results in runs.items():
        means[variant] = {name: float(np.mean([result[name] for result in results])) for name in results[0]}
    command = f"python scripts/bench/filtering.py --steps {steps} --rounds {rounds}"
    results.write_text(json.dumps({"command": command, "batch": BATCH, "means": means, "runs": runs}, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
