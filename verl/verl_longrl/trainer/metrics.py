"""Metrics that verl lacks: every reward part per task, group filtering per task, and host memory per role.

verl's training metrics have one number for rewards, the scalar. The parts that a run is judged by here (context F,
recall, precision, answer accuracy, format, failures) are logged at every training step, without padding rows.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from verl_longrl.trainer.rollout_key import RolloutKey
from verl_longrl.trainer.step_state import StepState

ROLES = {
    "trainer": r"ray::.*WorkerDict|ray::.*ActorRollout",
    "rollout_server": r"ray::vLLMHttpServer",
    "rollout_engine": r"VLLM",
    "reward": r"ray::RewardLoopWorker|longrl-scorer",
    "agent_loop": r"ray::AgentLoop",
    "transfer_queue": r"ray::(SimpleStorageUnit|TransferQueue)",
    "driver": r"ray::.*TaskRunner",
    "object_store": r"plasma|raylet",
}


def step_metrics(step: StepState) -> dict[str, float]:
    """Metrics of a step's rewards: `reward/` over the rollouts trained on, `reward_before_filter/` over all that were
    sampled, `group/` and `task/<task>/`."""
    uids = [RolloutKey.parse(key).uid for key in step.keys]
    tasks, rewards = [score["task"] for score in step.scores], [score["score"] for score in step.scores]
    sampled = step.sampled
    return {
        **reward_metrics(tasks, step.scores),
        **group_metrics(uids, rewards),
        **task_metrics(tasks, uids, rewards, step.filtered),
        **reward_metrics([score["task"] for score in sampled], sampled, prefix="reward_before_filter"),
        **filtered_metrics(step.filtered),
    }


def reward_metrics(
    tasks: Sequence[str], scores: Sequence[Mapping[str, object]], prefix: str = "reward"
) -> dict[str, float]:
    """Means of every numeric reward part over N rollouts: `<prefix>/<part>` and, per task, `<prefix>/<task>/<part>`.

    tasks: N task names; scores: N flat score dictionaries, the same keys in each (`Score.metrics()`).
    """
    groups: dict[str, list[float]] = defaultdict(list)
    for task, score in zip(tasks, scores, strict=True):
        for part, value in score.items():
            if isinstance(value, Real):
                groups[f"{prefix}/{part}"].append(float(value))
                groups[f"{prefix}/{task}/{part}"].append(float(value))
    return {name: float(np.mean(values)) for name, values in groups.items()}


def group_metrics(uids: Sequence[str], rewards: Sequence[float]) -> dict[str, float]:
    """Number of GRPO groups, and the fraction whose rewards are all equal, so that nothing is learned from them."""
    groups: dict[str, list[float]] = defaultdict(list)
    for uid, reward in zip(uids, rewards, strict=True):
        groups[uid].append(reward)
    spread = np.array([max(group) - min(group) for group in groups.values()])
    return {"group/count": float(len(groups)), "group/zero_variance_frac": float(np.mean(spread == 0))}


def task_metrics(
    tasks: Sequence[str],
    uids: Sequence[str],
    rewards: Sequence[float],
    filtered: Sequence[Sequence[Mapping[str, Any]]] = (),
) -> dict[str, float]:
    """The contribution of each task to a batch of N rollouts (GoLongRL's task metrics), under `task/<task>/`:

    - prompts, rollouts; reward_mean, reward_std over its rollouts (population);
    - prompt_std: mean over its prompts of the standard deviation within a prompt, scale: root of the mean of the
      squares of these (TMN-Reweight's S_k); unbiased, 0 for a prompt with one rollout;
    - signal_share: its share of the sum of prompt_std over all prompts of the batch; prompt_share: of the prompts;
    - filtered, filtered_all_right, filtered_all_wrong: see `filtered_metrics`.

    filtered: the flat score dictionaries of each group that was filtered out.
    """
    values, prompts, names = np.asarray(rewards, dtype=np.float64), np.asarray(uids), np.asarray(tasks)
    spread: dict[str, list[float]] = {}
    for task in dict.fromkeys(tasks):
        groups = [values[prompts == uid] for uid in dict.fromkeys(prompts[names == task])]
        spread[task] = [float(group.std(ddof=1)) if len(group) > 1 else 0.0 for group in groups]
    # TMN-Reweight and GRPO learn nothing from a prompt without spread, so the spread is a task's share of the signal.
    signal = sum(map(sum, spread.values()))
    metrics: dict[str, float] = {}
    for task, deviations in spread.items():
        of_task = values[names == task]
        metrics |= {
            f"task/{task}/prompts": float(len(deviations)),
            f"task/{task}/rollouts": float(len(of_task)),
            f"task/{task}/reward_mean": float(of_task.mean()),
            f"task/{task}/reward_std": float(of_task.std()),
            f"task/{task}/prompt_std": float(np.mean(deviations)),
            f"task/{task}/scale": float(np.sqrt(np.mean(np.square(deviations)))),
            f"task/{task}/signal_share": sum(deviations) / signal if signal else 0.0,
            f"task/{task}/prompt_share": len(deviations) / sum(map(len, spread.values())),
        }
    # A task may have only filtered groups, and then appears in `filtered` alone.
    for task in dict.fromkeys([*spread, *(group[0]["task"] for group in filtered)]):
        counts = filtered_metrics([group for group in filtered if group[0]["task"] == task])
        metrics |= {name.replace("group/", f"task/{task}/"): value for name, value in counts.items()}
    return metrics


def filtered_metrics(groups: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """Number of groups that were replaced because their rewards were equal, and how many of them had only right or only
    wrong answers. groups: the flat score dictionaries of each."""
    answers = [[score["answer"] for score in group] for group in groups]
    return {
        "group/filtered": float(len(groups)),
        "group/filtered_all_right": float(sum(min(group) >= 1 for group in answers)),
        "group/filtered_all_wrong": float(sum(max(group) <= 0 for group in answers)),
    }


def host_memory() -> dict[str, float]:
    """GiB of host memory of this node's processes by role (proportional set size where readable, else resident)."""
    import psutil

    total: dict[str, float] = defaultdict(float)
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or ())
        # The first role that matches, in the order of ROLES.
        role = next((name for name, pattern in ROLES.items() if re.search(pattern, command)), None)
        if role is None:
            continue
        try:
            memory = process.memory_full_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        # Resident memory counts a shared page in every process that maps it. pss divides the page among them, so a sum
        # over processes is right.
        total[role] += getattr(memory, "pss", memory.rss) / 2**30
    return dict(total)


def cluster_host_memory() -> dict[str, float]:
    """`host_memory/<role>_gib`, summed over the nodes of the Ray cluster; nothing when one of them does not answer."""
    import ray

    task = ray.remote(num_cpus=0)(host_memory)
    strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    try:
        per_node = ray.get([task.options(scheduling_strategy=strategy(n, soft=False)).remote() for n in nodes])
    except ray.exceptions.RayError:
        # A node is gone, or short of memory. That ends the run elsewhere, if at all.
        return {}
    roles = sorted({role for node in per_node for role in node})
    return {f"host_memory/{role}_gib": sum(node.get(role, 0.0) for node in per_node) for role in roles}
