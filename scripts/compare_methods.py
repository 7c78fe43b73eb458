"""Train methods from the same warm start on the same data at small scale, and compare them on held-out documents.

    python scripts/compare_methods.py [--comparison longrlvr_vs_outcome] [--seeds 3] [--steps 80] [overrides...]

longrlvr_vs_outcome: LongRLVR's reward and outcome-only RLVR. golongrl_tmn: TMN-Reweight and plain GRPO on five tasks of
different reward scales. Every method runs with every seed through the real entry point (Ray, verl, vLLM). Writes
docs/results/COMPARISON_table.md and COMPARISON.png, mean and spread by step. Complete runs are not repeated, and
interrupted ones resume.
"""

import json
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from verl_longrl.data.jsonl import read_jsonl

from data_gen.multitask.computed_tasks import data_source
from recipe.longrl.demo import run as demo
from recipe.longrl.demo.assets import WorldBuild, build_assets
from recipe.longrl.demo.grounded.build import GroundedBuild, warm_start_stages
from recipe.longrl.demo.grounded.world import GroundedWorld
from recipe.longrl.demo.multitask.build import MultitaskBuild


@dataclass(frozen=True)
class Comparison:
    """Methods to compare, and the data and metrics to compare them by."""

    world: WorldBuild
    """The demo world to build and train on."""
    model: str
    """Configuration group of the world's model."""
    methods: dict[str, list[str]]
    """Name -> overrides."""
    metrics: dict[str, str]
    """Validation metric -> label."""


class Name(StrEnum):
    longrlvr_vs_outcome = "longrlvr_vs_outcome"
    golongrl_tmn = "golongrl_tmn"


COMPARISONS = {
    # Answers need four evidence chunks. The model continues to the next chunk with probability 0.1: it looks up facts
    # well, but finds all four in about one of a thousand responses.
    Name.longrlvr_vs_outcome: Comparison(
        GroundedBuild(world=GroundedWorld(evidence=((4, 1.0),)), warm_start=warm_start_stages(patience=0.1)),
        "demo",
        {method: [f"method={method}"] for method in ("longrlvr", "outcome_only")},
        {"recall": "context recall", "context": "context F2", "answer": "answer accuracy"},
    ),
    Name.golongrl_tmn: Comparison(
        MultitaskBuild(),
        "demo_multitask",
        {"GRPO": ["method=golongrl", "longrl.advantage.estimator=upstream"], "TMN-Reweight": ["method=golongrl"]},
        {
            "score": "mean of the tasks",
            f"{data_source('retrieval')}/score": "retrieval (EM)",
            f"{data_source('exhaustive')}/score": "exhaustive (F1)",
            f"{data_source('matching')}/score": "matching (SubEM)",
            f"{data_source('ordering')}/score": "ordering (pairs)",
            f"{data_source('ranking')}/score": "ranking (NDCG)",
        },
    ),
}

Runs = dict[tuple[str, int], list[dict]]
"""(method, seed) -> validation rows by step."""


def run(
    config: Comparison,
    method: str,
    seed: int,
    steps: int,
    test_freq: int,
    folder: Path,
    overrides: list[str],
) -> list[dict]:
    """Train one method with one seed. Returns its validation rows, one per measured step."""
    output = folder / f"{method}-{seed}"
    settings = [
        *demo.overrides(folder / "assets", config.model),
        "hardware=cpu",
        *config.methods[method],
    ]
    settings += [f"trainer.experiment_name={output.name}", f"longrl.output_dir={output}"]
    settings += [f"data.seed={seed}", f"actor_rollout_ref.rollout.seed={1000 * seed}"]
    settings += [f"actor_rollout_ref.actor.data_loader_seed={seed}", f"trainer.total_training_steps={steps}"]
    settings += [f"trainer.test_freq={test_freq}", "trainer.save_freq=20", "longrl.export=false", *overrides]
    summary, command = output / "summary.json", ["python", "-m", "recipe.longrl.main", *settings]
    if not (summary.is_file() and json.loads(summary.read_text())["command"] == shlex.join(command)):
        output.mkdir(parents=True, exist_ok=True)
        print(f"== {output.name}: see {output}/console.txt", flush=True)
        with (output / "console.txt").open("a") as console:
            subprocess.run([sys.executable, *command[1:]], check=True, stdout=console, stderr=subprocess.STDOUT)
    return [row for row in read_jsonl(output / "metrics.jsonl") if row["split"] == "val"]


def metric_curve(runs: Runs, method: str, part: str) -> np.ndarray:
    """(seeds, T): values of one method at the T measured steps."""
    return np.array([[row[f"val/{part}"] for row in rows] for (name, _), rows in runs.items() if name == method])


def main(
    overrides: Annotated[list[str] | None, typer.Argument(help="Hydra overrides for every run.")] = None,
    comparison: Annotated[Name, typer.Option(help="What is config.")] = Name.longrlvr_vs_outcome,
    seeds: Annotated[int, typer.Option(help="Number of seeds.")] = 3,
    steps: Annotated[int, typer.Option(help="GRPO steps per run.")] = 80,
    test_freq: Annotated[int, typer.Option(help="Steps between validations.")] = 10,
    parallel: Annotated[int, typer.Option(help="Runs at a time (each needs about 10 GB of memory).")] = 1,
    folder: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("outputs/compare"),
    results: Annotated[Path, typer.Option(help="Folder of the table and the plot.")] = Path("docs/results"),
) -> None:
    """Run the comparison and write its table and plot."""
    config, kept = COMPARISONS[comparison], folder / comparison
    build_assets(config.world, kept / "assets")
    keys = [(method, seed) for seed in range(1, seeds + 1) for method in config.methods]
    with ThreadPoolExecutor(parallel) as pool:
        validations = pool.map(lambda key: run(config, *key, steps, test_freq, kept, overrides or []), keys)
        runs = dict(zip(keys, validations, strict=True))
    command = shlex.join(["python", "scripts/compare_methods.py", *sys.argv[1:]])
    write_results(config, runs, results / comparison, command)


def write_results(config: Comparison, runs: Runs, results: Path, command: str) -> None:
    """Write the table and the plot. results: their path without suffix."""
    results.parent.mkdir(parents=True, exist_ok=True)
    seeds = len({seed for _, seed in runs})
    steps = [row["step"] for row in next(iter(runs.values()))]
    lines = [f"Command: `{command}`", "", f"Held-out documents by step; mean ± standard deviation over {seeds} seeds."]
    lines += ["The last column is the mean over the measured steps after the first.", ""]
    lines += [f"| | | {' | '.join(map(str, steps))} | mean |", "|---" * (len(steps) + 3) + "|"]
    for part, label in config.metrics.items():
        for method in config.methods:
            values = metric_curve(runs, method, part)
            columns = [*values.T, values[:, 1:].mean(1)]
            lines.append(
                f"| {label} | {method} | " + " | ".join(f"{c.mean():.3f} ± {c.std():.3f}" for c in columns) + " |"
            )
    plot_results(config, runs, steps, results.with_suffix(".png"))
    results.with_name(f"{results.name}_table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def plot_results(config: Comparison, runs: Runs, steps: list[int], path: Path) -> None:
    """Plot one panel for each metric, in rows of three: means over seeds, with a band of their standard deviation."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = -(-len(config.metrics) // 3)
    figure, axes = pyplot.subplots(rows, 3, figsize=(12.6, 3.4 * rows), layout="constrained", squeeze=False)
    for axis, (part, label) in zip(axes.flat, config.metrics.items(), strict=True):
        for method in config.methods:
            values = metric_curve(runs, method, part)
            mean, spread = values.mean(0), values.std(0)
            (line,) = axis.plot(steps, mean, "o-", label=method, markersize=3)
            axis.fill_between(steps, mean - spread, mean + spread, alpha=0.2, color=line.get_color())
        axis.set(title=label, xlabel="step", ylim=(None, 1.03))
        axis.grid(alpha=0.3)
    axes.flat[0].legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    typer.run(main)
