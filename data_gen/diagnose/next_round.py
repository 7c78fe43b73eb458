"""Weights of the tasks for the next round of data_gen.multitask (`assign.weights`).

    weight = 0.25 + 1.75 * (mean over the task's prompts of 27/4 v (1 - p))    p, v: mean and variance of the rewards

So weights are from 0.25 to 2; the default weight of a task is 1. A task that is right sometimes, but mostly wrong, gets
the highest weight. A task that is solved or hopeless gets a low weight, but never 0, because the next model may do
differently. Groups that training filtered out because all their rewards were equal count as prompts with nothing to
learn. Tasks whose metric is `UNSCALED` keep their weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from omegaconf import OmegaConf

from data_gen.diagnose.tally import PromptStats
from data_gen.multitask.computed_tasks import ABILITIES, data_source
from data_gen.multitask.difficulty import UNSCALED
from data_gen.multitask.pipeline import MULTITASK

LOWEST, HIGHEST = 0.25, 2.0


def next_weights(by_task: Mapping[str, PromptStats], filtered: Mapping[str, int]) -> dict[str, float]:
    """The weight, to three digits, of each task of data_gen.multitask that has scored prompts, by its name there.
    filtered: the number of groups of each task that were filtered out."""
    weights = {}
    for task in ABILITIES:
        name = data_source(task)
        if task not in UNSCALED and name in by_task and by_task[name].prompts:
            mean = by_task[name].learnable / (by_task[name].prompts + filtered.get(name, 0))
            weights[task] = round(LOWEST + (HIGHEST - LOWEST) * mean, 3)
    return weights


def weight_overrides(weights: Mapping[str, float]) -> list[str]:
    """The weights as KEY=VALUE."""
    return [f"assign.weights.{task}={weight:g}" for task, weight in weights.items()]


def next_yaml(weights: Mapping[str, float], base: Path | None) -> str:
    """A file for `python -m data_gen.multitask run --config` with the settings of the file `base` and these weights.

    Raises ConfigError if `base` is not a configuration of data_gen.multitask.
    """
    overrides = weight_overrides(weights)
    MULTITASK.config.load(base, overrides)
    settings = OmegaConf.load(base) if base else OmegaConf.create()
    return OmegaConf.to_yaml(OmegaConf.merge(settings, OmegaConf.from_dotlist(overrides)))
