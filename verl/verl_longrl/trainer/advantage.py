"""Advantages that depend on the task of a rollout.

verl's advantage estimators see rewards, masks and prompts, but not the task (verl#7473), and count its padding rows as
prompts. So for the estimators here the trainer lets verl compute GRPO, and then replaces the result:

- tmn: TMN-Reweight of GoLongRL (`tmn.py`);
- task: (r - mean of the task) / standard deviation of the task, over all of the batch's rollouts of a task
  (QwenLong-L1.5, equation 7), for comparison.

`upstream` keeps verl's algorithm.adv_estimator, which has GRPO, and Dr. GRPO with
algorithm.norm_adv_by_std_in_grpo=false. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Le
from pydantic import NonNegativeFloat, PositiveFloat
from pydantic.dataclasses import dataclass

from verl_longrl.options import Options, Share
from verl_longrl.trainer.rollout_key import RolloutKey
from verl_longrl.trainer.tmn import Floats, RunningScale, task_variances, tmn_advantages

Estimator = Literal["upstream", "tmn", "task"]


@dataclass(frozen=True)
class AdvantageOptions(Options):
    """The advantage of a rollout, where that depends on its task."""

    estimator: Estimator = "upstream"
    """upstream: verl's own, `algorithm.adv_estimator`. tmn: TMN-Reweight of GoLongRL, over GRPO. task: reward minus the
    task's mean, divided by the task's standard deviation. All other keys of this group are for tmn."""
    difficulty_reweight: bool = False
    """Weight advantages by the difficulty of the prompt."""
    alpha: Share = 0.8
    """Share of the prompt's mean reward in the threshold between easy and difficult."""
    gamma: NonNegativeFloat = 1.0
    """Strength of the weights by difficulty."""
    clip: Annotated[float, Ge(1)] | None = None
    """Weights are between 1 / clip and clip; null: unbounded, as published."""
    epsilon: PositiveFloat = 1e-6
    """Added to the scale of a task."""
    scale_floor: NonNegativeFloat = 0.0
    """Least scale of a task."""
    decay: Annotated[float, Ge(0), Le(0.999999)] = 0.0
    """Decay of the running average of a task's scale over steps; 0: each batch's own scale, as published."""


class Advantages:
    """Advantages of a run's batches, with the state that is kept from batch to batch."""

    def __init__(self, options: AdvantageOptions):
        self.options = options
        self.scale = RunningScale(options.decay)

    def __call__(self, rewards: Sequence[float], uids: Sequence[str], tasks: Sequence[str]) -> Floats:
        """(N,) advantages of N rollouts: one reward, prompt and task each, padding rows left out."""
        options = self.options
        if options.estimator == "task":
            return task_advantages(rewards, tasks, options.epsilon)
        return tmn_advantages(
            rewards,
            uids,
            tasks,
            difficulty_reweight=options.difficulty_reweight,
            alpha=options.alpha,
            gamma=options.gamma,
            epsilon=options.epsilon,
            scale_floor=options.scale_floor,
            clip=options.clip,
            # With decay 0 these are the scales of this batch alone.
            scales=self.scale.update(task_variances(rewards, uids, tasks)),
        )

    def state_dict(self) -> dict[str, Any]:
        return {"scale": self.scale.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.scale.load_state_dict(state["scale"])


def task_advantages(rewards: Sequence[float], tasks: Sequence[str], epsilon: float = 1e-6) -> Floats:
    """(r - mean_k) / (std_k + epsilon) over all rollouts of a task, unbiased std; 0 for a task's only rollout."""
    values = np.asarray(rewards, dtype=np.float64)
    names = np.asarray(tasks, dtype=object)
    advantages = np.zeros(len(values))
    for task in dict.fromkeys(tasks):
        of_task = names == task
        # One rollout has no deviation, and its advantage stays 0.
        if of_task.sum() > 1:
            rewards_of_task = values[of_task]
            scale = rewards_of_task.std(ddof=1) + epsilon
            advantages[of_task] = (rewards_of_task - rewards_of_task.mean()) / scale
    return advantages


def spread_over_tokens(
    advantage_of: Mapping[tuple[str, int], float], keys: Sequence[RolloutKey], response_masks: Sequence[Any]
) -> list[Any]:
    """For each row (T,): the rollout's advantage at its response tokens, and 0 elsewhere.

    advantage_of: `RolloutKey.rollout` -> advantage, which all outputs of the rollout get. Padding rows are not in it
    and get 0. response_masks: for each row a tensor (T,), 1 at tokens that the model wrote.
    """
    return [mask.float() * advantage_of.get(key.rollout, 0.0) for key, mask in zip(keys, response_masks, strict=True)]
