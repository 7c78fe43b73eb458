"""A step whose rewards mostly failed must stop the run, not teach the model noise.

One sample whose scorer timed out or whose judge was unreachable is counted and survived. When more than
`max_share` of a step failed, `check` says so in one message; the trainer saves and stops.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from verl_longrl.rewards.score import FAILURES, STATUSES


class FailureGuard:
    """Counts statuses step by step. max_share: share of a step's samples, in [0, 1], that may fail; 1 never
    stops."""

    def __init__(self, max_share: float = 0.25):
        if not 0 <= max_share <= 1:
            raise ValueError(f"max_share = {max_share!r}; expected a share between 0 and 1")
        self.max_share = max_share
        self.step_share = 0.0
        self.counts: Counter[str] = Counter()

    def check(self, statuses: Sequence[str]) -> str | None:
        """Count one step's statuses (padding rows left out). Returns why to stop, or None to go on.

        Raises ValueError for a status that does not exist.
        """
        step = Counter(statuses)
        unknown = sorted(set(step) - set(STATUSES))
        if unknown:
            raise ValueError(f"unknown status {unknown[0]!r}; expected one of {', '.join(STATUSES)}")
        self.counts += step
        failed = sum(step[status] for status in FAILURES)
        self.step_share = failed / len(statuses) if statuses else 0.0
        if self.step_share <= self.max_share:
            return None
        kinds = ", ".join(f"{step[status]} {status}" for status in FAILURES if step[status])
        return (
            f"{failed} of {len(statuses)} rewards of this step failed ({kinds}): {self.step_share:.0%}, more "
            f"than the {self.max_share:.0%} allowed by max_failure_share. The reasons are in the rollout "
            "dump; fix the judge or the scorer and run the same command again to resume, or raise "
            "max_failure_share"
        )

    def metrics(self) -> dict[str, float]:
        """The last step's failure share and the counts since the start, by status."""
        return {
            "failure_share": self.step_share,
            **{f"total_{status}": float(self.counts[status]) for status in STATUSES},
        }

    def state_dict(self) -> dict[str, Any]:
        return {"counts": dict(self.counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.counts = Counter(state["counts"])
