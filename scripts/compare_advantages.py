"""What TMN-Reweight would change about the advantages of a run's rollouts: python scripts/compare_advantages.py RUN...

For the logged rollouts of training runs (longrl.log_rollouts), by thirds of their steps: how GRPO's advantages (divided
by each prompt's standard deviation) correlate with those of TMN-Reweight and of TMN alone, and of each task its scale
(root mean variance within a prompt) and mean absolute advantage.
"""

import itertools
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
from verl_longrl.data.jsonl import read_jsonl
from verl_longrl.trainer.tmn import task_variances, tmn_advantages


class Step(NamedTuple):
    """The rollouts of one step of a run: (N,) each, and the advantages (N,) of each kind."""

    tasks: np.ndarray
    scales: dict[str, float]
    grpo: np.ndarray
    tmn: np.ndarray
    reweight: np.ndarray


def read(run: Path) -> list[Step]:
    """The steps of a run, in order."""
    files = sorted((f for f in (run / "rollouts").glob("*.jsonl") if f.stem.isdigit()), key=lambda file: int(file.stem))
    if not files:
        raise typer.BadParameter(f"{run / 'rollouts'} has no STEP.jsonl; expected the folder of a training run")
    return [_step(list(read_jsonl(file))) for file in files]


def _step(rows: list[dict]) -> Step:
    rewards, uids, tasks = ([row[key] for row in rows] for key in ("score", "uid", "task"))
    return Step(
        np.array(tasks),
        {task: variance**0.5 for task, variance in task_variances(rewards, uids, tasks).items()},
        tmn_advantages(rewards, uids, uids),  # each prompt a task of its own
        tmn_advantages(rewards, uids, tasks),
        tmn_advantages(rewards, uids, tasks, difficulty_reweight=True),
    )


def main(runs: Annotated[list[Path], typer.Argument(help="Folders of training runs.")]) -> None:
    """Print both tables."""
    read_runs = [read(run) for run in runs]
    last = min(map(len, read_runs))
    bounds = [last * third // 3 for third in range(4)]
    parts = [
        (f"steps {start + 1} to {end}", [step for steps in read_runs for step in steps[start:end]])
        for start, end in itertools.pairwise(bounds)
        if end > start
    ]
    print("| correlation with GRPO | TMN-Reweight | TMN alone |\n|---|---|---|")
    for name, steps in parts:
        grpo = np.concatenate([step.grpo for step in steps])
        others = (np.concatenate([getattr(step, kind) for step in steps]) for kind in ("reweight", "tmn"))
        print(f"| {name} | " + " | ".join(f"{np.corrcoef(grpo, other)[0, 1]:.3f}" for other in others) + " |")
    tasks = sorted({task for _, steps in parts for step in steps for task in step.scales})
    print("\n| | scale | mean absolute advantage: GRPO | TMN-Reweight |\n|---|---|---|---|")
    for name, steps in parts:
        for task in tasks:
            scale = np.mean([step.scales[task] for step in steps if task in step.scales])
            sizes = (
                np.abs(np.concatenate([getattr(step, kind)[step.tasks == task] for step in steps])).mean()
                for kind in ("grpo", "reweight")
            )
            print(f"| {task}, {name} | {scale:.3f} | " + " | ".join(f"{size:.2f}" for size in sizes) + " |")


if __name__ == "__main__":
    typer.run(main)
