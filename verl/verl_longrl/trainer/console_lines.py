"""Lines about a run in the user's terminal, one per event."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from verl_longrl.rewards.score import FAILURES


def print_line(line: str) -> None:
    """Print a line that reaches the user's terminal (recipe.longrl.console shows lines marked `longrl: `)."""
    print(f"longrl: {line}", flush=True)


def step_line(step: int, last: int, metrics: dict[str, Any], alarms: Sequence[str] = ()) -> str:
    """The line of a training step. alarms: see `Health.alarms`."""
    line = metrics_line(f"step {step}/{last}", "reward", metrics, metrics.get("timing_s/step", 0.0))
    # The means before it are over the groups that were trained on.
    if filtered := metrics["group/filtered"]:
        before_filter = metrics["reward_before_filter/score"]
        line += f"  reward before filtering {before_filter:.3f} ({filtered:.0f} groups replaced)"
    difference = metrics.get("training/rollout_probs_diff_mean")
    if difference is not None:
        line += f"  rollout/train prob diff {difference:.1e}"
    return f"{line}  alarm: {'; '.join(alarms)}" if alarms else line


def metrics_line(label: str, prefix: str, metrics: dict[str, Any], seconds: float) -> str:
    """One readable line, e.g. `step 12/150  reward 0.83  context 0.71  recall 0.66 ...  3.1 s`."""
    # Most tasks have no citations.
    citations = ("context", "recall", "precision") if metrics.get(f"{prefix}/context") else ()
    shown = {"reward": "score"} | {part: part for part in (*citations, "answer", "format")}
    parts = [
        f"{name} {metrics[f'{prefix}/{part}']:.3f}" for name, part in shown.items() if f"{prefix}/{part}" in metrics
    ]
    return "  ".join([label, *parts, f"{seconds:.1f} s"])


def tasks_line(metrics: dict[str, Any]) -> str:
    """The validation reward of each task, e.g. `  by task: golongrl_ordering 0.420  ...`; "" for a single task."""
    tasks = [(match[1], name) for name in sorted(metrics) if (match := re.fullmatch("val/(.+)/score", name))]
    rewards = "  ".join(f"{task} {metrics[name]:.3f}" for task, name in tasks)
    return f"  by task: {rewards}" if len(tasks) > 1 else ""


def top_failure_reasons(scores: list[dict[str, Any]]) -> str:
    """The three most frequent reasons of failed scores."""
    counts = Counter(f"{score['status']}: {score['reason']}" for score in scores if score["status"] in FAILURES)
    return "Most frequent: " + "; ".join(f"{reason} ({count} times)" for reason, count in counts.most_common(3))
