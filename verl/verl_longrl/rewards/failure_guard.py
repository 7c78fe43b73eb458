"""A step whose rewards mostly failed must stop the run, not teach the model noise.

One sample whose scorer timed out or whose judge was unreachable is counted and survived. When more than
`max_share` of a step failed, `check` says so in one message; the trainer saves and stops.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from verl_longrl.rewards.score import FAILURES, STATUSES


@dataclass(frozen=True)
class FailureGuard:
    """max_share: share of a step's samples, in [0, 1], that may fail; 1 never stops."""

    max_share: float = 0.25

    def __post_init__(self) -> None:
        if not 0 <= self.max_share <= 1:
            raise ValueError(f"max_share = {self.max_share!r}; expected a share between 0 and 1")

    def judge_away(self, statuses: Sequence[str]) -> bool:
        """Whether `check` finds too many failures, and would not if the judge had been there."""
        others = [status for status in statuses if status != "judge_away"]
        return self.check(statuses) is not None and self.check(others) is None

    def check(self, statuses: Sequence[str]) -> str | None:
        """Why one step with these statuses (padding rows left out) must stop the run, or None to go on.

        Raises ValueError for a status that does not exist.
        """
        step = Counter(statuses)
        unknown = sorted(set(step) - set(STATUSES))
        if unknown:
            raise ValueError(f"unknown status {unknown[0]!r}; expected one of {', '.join(STATUSES)}")
        failed = sum(step[status] for status in FAILURES)
        share = failed / len(statuses) if statuses else 0.0
        if share <= self.max_share:
            return None
        kinds = ", ".join(f"{step[status]} {status}" for status in FAILURES if step[status])
        return (
            f"{failed} of {len(statuses)} rewards of this step failed ({kinds}): {share:.0%}, more "
            f"than the {self.max_share:.0%} allowed by max_failure_share. The reasons are in the rollout "
            "dump; fix the judge or the scorer and run the same command again to resume, or raise "
            "max_failure_share"
        )
