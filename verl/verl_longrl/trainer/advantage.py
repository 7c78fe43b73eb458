"""Which advantage a rollout gets, where that depends on its task.

verl's advantage estimators see rewards, masks and prompts, never a task (verl#7473), and count its padding rows as
prompts. So for the estimators here the trainer lets verl compute GRPO, and puts these in their place:

- tmn: TMN-Reweight of GoLongRL (`tmn.py`);
- task: (r - mean of the task) / standard deviation of the task, over all of the batch's rollouts of a task
  (QwenLong-L1.5, equation 7), for comparison.

`upstream` leaves algorithm.adv_estimator alone; GRPO and Dr. GRPO are that, without or with
algorithm.norm_adv_by_std_in_grpo=false. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from verl_longrl.rewards.options import Options, choice, number
from verl_longrl.trainer.tmn import Floats, RunningScale, task_variances, tmn_advantages

Estimator = Literal["upstream", "tmn", "task"]


@dataclass(frozen=True)
class AdvantageOptions(Options):
    """estimator: verl, tmn or task. The rest is for tmn. difficulty_reweight: weight by difficulty, with alpha (of
    the prompt's mean in the threshold), gamma (strength) and clip (weights within 1/clip to clip; null: unbounded, as
    published). epsilon, scale_floor: added to, and least, scale of a task. decay: of the average of a task's scale over
    steps; 0 takes each batch's own, as published."""

    estimator: Estimator = "upstream"
    difficulty_reweight: bool = False
    alpha: float = 0.8
    gamma: float = 1.0
    clip: float | None = None
    epsilon: float = 1e-6
    scale_floor: float = 0.0
    decay: float = 0.0

    def __post_init__(self) -> None:
        choice("advantage.estimator", self.estimator, Estimator)
        number("advantage.alpha", self.alpha, 0, 1)
        number("advantage.gamma", self.gamma, 0)
        number("advantage.epsilon", self.epsilon, 0, open_low=True)
        number("advantage.scale_floor", self.scale_floor, 0)
        number("advantage.decay", self.decay, 0, 0.999999)
        if self.clip is not None:
            number("advantage.clip", self.clip, 1)


class Advantages:
    """Advantages of one batch after the other, with what is remembered between them."""

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
        own = names == task
        if own.sum() > 1:
            advantages[own] = (values[own] - values[own].mean()) / (values[own].std(ddof=1) + epsilon)
    return advantages
