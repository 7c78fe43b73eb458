"""Compare the advantages of GRPO, TMN-Reweight and TMN for the rollouts of training runs.

    python scripts/compare_advantages.py RUN...

For the logged rollouts of each run (longrl.log_rollouts), by thirds of its steps: the correlation of GRPO's advantages
(divided by each prompt's standard deviation) with those of TMN-Reweight and of TMN alone; and for each task its scale
(root mean variance within a prompt) and mean absolute advantage.
"""

import itertools
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
from verl_longrl.data.jsonl import read_jsonl
from verl_longrl.trainer.rollout_log import step_files
from verl_longrl.trainer.tmn import task_variances, tmn_advantages


class StepAdvantages(NamedTuple):
    """Tasks of the N rollouts of one step, scales by task, and advantages of each kind; arrays are (N,)."""

    tasks: np.ndarray
    scales: dict[str, float]
    grpo: np.ndarray
    tmn: np.ndarray
    reweight: np.ndarray


def read_steps(run: Path) -> list[StepAdvantages]:
    """The steps of a run in order."""
    files = step_files(run / "rollouts")
    if not files:
        raise typer.BadParameter(f"{run / 'rollouts'} has no train/STEP.jsonl; expected the folder of a training run")
    return [_step(read_jsonl(file)) for file in files.values()]


def _step(rows: list[dict]) -> StepAdvantages:
    rewards, uids, tasks = ([row[key] for row in rows] for key in ("score", "uid", "task"))
    return StepAdvantages(
        np.array(tasks),
        {task: variance**0.5 for task, variance in task_variances(rewards, uids, tasks).items()},
        # GRPO is TMN with each prompt as a separate task.
        tmn_advantages(rewards, uids, uids),
        tmn_advantages(rewards, uids, tasks),
        tmn_advantages(rewards, uids, tasks, difficulty_reweight=True),
    )


def main(runs: Annotated[list[Path], typer.Argument(help="Folders of training runs.")]) -> None:
    """Print both tables."""
    runs_steps = [read_steps(run) for run in runs]
    last = min(map(len, runs_steps))
    bounds = [last * third // 3 for third in range(4)]
    parts = [
        (f"steps {start + 1} to {end}", [step for steps in runs_steps for step in steps[start:end]])
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
