r"""TMN-Reweight, GoLongRL's advantage for tasks whose rewards have different scales (arXiv 2605.19577, section 3).

For rollout j of prompt x of task k, in a batch:

    A_j = (r_j - mu_x) / (S_k + epsilon)      S_k = sqrt(mean over prompts x of task k of var_x)

mu_x is the mean and var_x the unbiased variance of the prompt's rewards. Rewards are centred per prompt, as in GRPO,
and scaled per task, so that a prompt whose rewards hardly differ does not get huge advantages and no metric outweighs
another. With `difficulty_reweight`, rare successes and rare failures count more:

    t_x = alpha * mu_x + (1 - alpha) * M_k    M_k = mean over prompts x of task k of mu_x
    p_x = share of the prompt's rewards above t_x
    A_j <- A_j * exp(gamma * (0.5 - p_x)) if r_j > mu_x else A_j * exp(gamma * (p_x - 0.5))

Example with alpha 0.8, gamma 1 and M_k = 0.5: a prompt with rewards 1, 0, 0, 0 has mu_x = 0.25, t_x = 0.3 and p_x =
0.25. The success gets the weight exp(0.25) = 1.28, the failures get exp(-0.25) = 0.78.

A prompt with a single rollout has mu_x = 0, var_x = 1 and t_x = M_k, as in the released code. Everything is computed in
float64 and in two passes: the released one-pass float32 variance of rewards 0.9 +- 1e-4 is 0 in half of all draws.
Pure numpy.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class _TaskBatch(NamedTuple):
    """N rollouts of P prompts of K tasks. Prompts and tasks are numbered in the order of their first rollout."""

    rewards: Floats
    """(N,)"""
    prompt: NDArray[np.intp]
    """(N,) number of each rollout's prompt."""
    task: NDArray[np.intp]
    """(P,) number of each prompt's task."""
    names: list[Hashable]
    """(K,) names of the tasks."""
    rollouts: NDArray[np.intp]
    """(P,) rollouts of each prompt."""
    mean: Floats
    """(P,) mu_x."""
    variance: Floats
    """(P,) var_x."""

    def by_task(self, values: Floats) -> Floats:
        """Means over the prompts of each task, (P,) -> (K,)."""
        # Tasks [0, 0, 1] and values [1, 3, 5] give sums [4, 5] and counts [2, 1], so [2, 5].
        return np.bincount(self.task, values) / np.bincount(self.task)


def tmn_advantages(
    rewards: ArrayLike,
    uids: Sequence[Hashable] | NDArray[Any],
    tasks: Sequence[Hashable] | NDArray[Any],
    *,
    difficulty_reweight: bool = False,
    alpha: float = 0.8,
    gamma: float = 1.0,
    epsilon: float = 1e-6,
    scale_floor: float = 0.0,
    clip: float | None = None,
    scales: Mapping[Any, float] | None = None,
) -> Floats:
    """Advantages (N,) of N rollouts, float64.

    Args:
        rewards: (N,) one scalar per rollout.
        uids: (N,) each rollout's prompt.
        tasks: (N,) each rollout's task; the same for all rollouts of a prompt.
        difficulty_reweight: weight by difficulty; `alpha` and `gamma` are for this only.
        epsilon: added to the scale.
        scale_floor: lower bound of a task's scale, for tasks whose rewards hardly differ.
        clip: bound of the difficulty weights, which are then within [1 / clip, clip]; None: no bound, as published.
        scales: task -> S_k, instead of that of this batch (`RunningScale`).

    Raises ValueError for different lengths, rewards that are not finite, a prompt with two tasks, and options out of
    range.
    """
    _check(alpha, gamma, epsilon, scale_floor, clip)
    batch = _batch(rewards, uids, tasks)
    # S_k, the root of the mean variance: not the mean of the deviations.
    scale_of_batch = np.sqrt(batch.by_task(batch.variance))
    scale = scale_of_batch if scales is None else np.array([scales[name] for name in batch.names])
    # r_j - mu_x.
    centred = batch.rewards - batch.mean[batch.prompt]
    # Scales of tasks (K,) become those of prompts (P,), then those of rollouts (N,).
    advantages = centred / (np.maximum(scale, scale_floor)[batch.task][batch.prompt] + epsilon)
    if difficulty_reweight:
        advantages = advantages * _difficulty(batch, centred, alpha, gamma, clip)
    return advantages


def task_variances(
    rewards: ArrayLike, uids: Sequence[Hashable] | NDArray[Any], tasks: Sequence[Hashable] | NDArray[Any]
) -> dict[Any, float]:
    """S_k squared for every task of a batch: the mean of its prompts' unbiased variances."""
    batch = _batch(rewards, uids, tasks)
    return dict(zip(batch.names, batch.by_task(batch.variance).tolist(), strict=True))


@dataclass
class RunningScale:
    """S_k averaged over steps, for tasks with few prompts in a batch: var <- decay * var + (1 - decay) * batch's var.

    decay: in [0, 1); with 0 only the last batch counts. The first batch of a task counts fully.
    """

    decay: float = 0.0
    variances: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay = {self.decay!r}; expected at least 0 and less than 1")

    def update(self, of_batch: Mapping[str, float]) -> dict[str, float]:
        """Add a batch's `task_variances`. Returns S_k of its tasks."""
        for task, variance in of_batch.items():
            # A new task has no average yet: with its own variance as `before`, the first batch counts fully.
            before = self.variances.get(task, variance)
            self.variances[task] = self.decay * before + (1 - self.decay) * variance
        return {task: float(np.sqrt(self.variances[task])) for task in of_batch}

    def state_dict(self) -> dict[str, float]:
        return dict(self.variances)

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        self.variances = dict(state)


def _batch(rewards: ArrayLike, uids: Any, tasks: Any) -> _TaskBatch:
    values = np.asarray(rewards, dtype=np.float64)
    if not values.shape == (len(uids),) == (len(tasks),):
        raise ValueError(
            f"rewards {values.shape}, {len(uids)} uids and {len(tasks)} tasks; expected one of each per row"
        )
    if not np.isfinite(values).all():
        at = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(f"rewards[{at}] = {values[at]} is not finite")
    prompts: dict[Hashable, int] = {}
    names: dict[Hashable, int] = {}
    task_of: list[int] = []
    prompt = np.empty(len(values), dtype=np.intp)
    for row, (uid, task) in enumerate(zip(uids, tasks, strict=True)):
        number = names.setdefault(task, len(names))
        prompt[row] = prompts.setdefault(uid, len(prompts))
        # This is the first rollout of its prompt.
        if prompt[row] == len(task_of):
            task_of.append(number)
        elif task_of[prompt[row]] != number:
            other = list(names)[task_of[prompt[row]]]
            raise ValueError(f"prompt {uid!r} has rollouts of task {other!r} and of task {task!r}; expected one task")
    count = np.bincount(prompt, minlength=len(prompts))
    mean = np.bincount(prompt, values, minlength=len(prompts)) / count
    # Deviations from the mean, in a second pass: the mean of squares minus the square of the mean would lose a small
    # variance to rounding.
    squares = np.bincount(prompt, (values - mean[prompt]) ** 2, minlength=len(prompts))
    # As in the released code, mu_x = 0 and var_x = 1 for a single rollout.
    single = count == 1
    variance = np.where(single, 1.0, squares / np.maximum(count - 1, 1))
    return _TaskBatch(
        values, prompt, np.array(task_of, dtype=np.intp), list(names), count, np.where(single, 0.0, mean), variance
    )


def _difficulty(batch: _TaskBatch, centred: Floats, alpha: float, gamma: float, clip: float | None) -> Floats:
    """Weights (N,) by which advantages are multiplied."""
    # M_k of each prompt's task, (P,).
    task_mean = batch.by_task(batch.mean)[batch.task]
    # t_x, (P,).
    threshold = np.where(batch.rollouts == 1, task_mean, alpha * batch.mean + (1 - alpha) * task_mean)
    above = np.bincount(batch.prompt, batch.rewards > threshold[batch.prompt], minlength=len(batch.rollouts))
    # p_x of each rollout's prompt, (N,).
    share = (above / batch.rollouts)[batch.prompt]
    weights = np.exp(gamma * np.where(centred > 0, 0.5 - share, share - 0.5))
    return weights if clip is None else np.clip(weights, 1 / clip, clip)


def _check(alpha: float, gamma: float, epsilon: float, scale_floor: float, clip: float | None) -> None:
    ranges = {
        "alpha": (alpha, 0.0, 1.0),
        "gamma": (gamma, 0.0, np.inf),
        "epsilon": (epsilon, 0.0, np.inf),
        "scale_floor": (scale_floor, 0.0, np.inf),
        # None sets no bound, and 1 passes the check.
        "clip": (1.0 if clip is None else clip, 1.0, np.inf),
    }
    for name, (value, low, high) in ranges.items():
        if not low <= value <= high:
            raise ValueError(
                f"{name} = {value!r}; expected at least {low:g}" + (f" and at most {high:g}" if high < 2 else "")
            )
