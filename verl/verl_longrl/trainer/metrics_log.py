"""`metrics.jsonl`: one line per training step, validation and evaluation, from which tables and plots are made.

A resume drops the lines of the steps that it repeats. Runs of earlier versions used other names for some metrics;
`iterate_metrics` gives those their present names.
"""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from verl_longrl.data.jsonl import Journal, iterate_jsonl, truncate_after
from verl_longrl.trainer.console_lines import print_line

FORMER_NAMES = {
    "group/no_signal": "group/zero_variance_frac",
    "rollout/prefilled": "rollout/prefill_fraction",
    "rollout/prompts_stored": "rollout/prompt_storage_fraction",
    "sampled/": "reward_before_filter/",
}
"""Name in runs of earlier versions -> present name. One that ends in a slash is the beginning of several names."""


def iterate_metrics(path: Path, keys: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """The rows of a `metrics.jsonl`, oldest first, under the present names. keys: what each row must have."""
    for row in iterate_jsonl(path, keys):
        yield {present_name(name): value for name, value in row.items()}


def present_name(name: str) -> str:
    prefix, slash, rest = name.partition("/")
    # sampled/longrlvr/context becomes reward_before_filter/longrlvr/context.
    if (beginning := FORMER_NAMES.get(prefix + slash)) is not None and rest:
        return beginning + rest
    return FORMER_NAMES.get(name, name)


class MetricsLog:
    """Writes `metrics.jsonl` of a run. While the disk is full, lines wait in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._journal = Journal(path)

    def write(self, split: str, step: int, metrics: Mapping[str, Any]) -> None:
        """Append the numbers among `metrics`. split: "train", "val" or "evaluate"."""
        numbers = {name: float(value) for name, value in metrics.items() if isinstance(value, int | float | np.number)}
        if problem := self._journal.add({"split": split, "step": int(step), "time": time.time(), **numbers}):
            print_line(f"step {step}: {problem}")

    def drop_after(self, step: int) -> None:
        """Drop the lines of steps that are about to be repeated; at step 0 those are all lines."""
        truncate_after(self.path, lambda row: step > 0 and row.get("step", 0) <= step)

    def last_training_steps(self, count: int) -> list[dict[str, Any]]:
        return list(deque((row for row in iterate_metrics(self.path) if row["split"] == "train"), count))
