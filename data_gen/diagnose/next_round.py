"""What to make more of: weights for the tasks of the next round of data_gen.multitask (`assign.weights`).

    weight = 0.25 + 1.75 * (mean over the task's prompts of 27/4 v (1 - p))    p, v: mean and variance of what is earned

so from 0.25 to 2, where 1 is a task's weight that nobody sets. A task that is right now and then, and mostly not, gets
most; one that is solved or hopeless gets little, and never nothing, since the next model may see it otherwise. Groups
that training filtered out because all their rewards were equal count as prompts with nothing to learn. Tasks whose
metric is `UNSCALED` keep the weight they have.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from omegaconf import OmegaConf

from data_gen.diagnose.tally import Group
from data_gen.multitask.computed_tasks import ABILITIES, data_source
from data_gen.multitask.config import MultitaskConfig
from data_gen.multitask.difficulty import UNSCALED

LEAST, MOST = 0.25, 2.0


def weights(by_task: Mapping[str, Group], filtered: Mapping[str, int]) -> dict[str, float]:
    """The weight, to three digits, of each task that data_gen.multitask makes and that has scored prompts, by its name
    there. filtered: how many groups of each task were filtered out."""
    found = {}
    for task in (task for task in ABILITIES if task not in UNSCALED):
        name = data_source(task)
        if name in by_task and by_task[name].prompts:
            mean = by_task[name].learnable / (by_task[name].prompts + filtered.get(name, 0))
            found[task] = round(LEAST + (MOST - LEAST) * mean, 3)
    return found


def overrides(weights: Mapping[str, float]) -> list[str]:
    """The weights as KEY=VALUE."""
    return [f"assign.weights.{task}={weight:g}" for task, weight in weights.items()]


def next_yaml(weights: Mapping[str, float], base: Path | None) -> str:
    """A file for `python -m data_gen.multitask run --config` with these weights and all that the file `base` sets.

    Raises ConfigError when `base` is no configuration of data_gen.multitask.
    """
    changed = overrides(weights)
    MultitaskConfig.load(base, changed)
    given = OmegaConf.load(base) if base else OmegaConf.create()
    return OmegaConf.to_yaml(OmegaConf.merge(given, OmegaConf.from_dotlist(changed)))
