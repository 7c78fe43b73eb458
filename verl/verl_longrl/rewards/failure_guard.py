"""Stop the run when most rewards of a step failed, so that it does not train on noise.

One sample whose scorer timed out or whose judge was unreachable is counted and survived. When more than `max_share` of
a step failed, `check` returns the reason in one message; the trainer saves and stops.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from verl_longrl.rewards.score import FAILURES, STATUSES


@dataclass(frozen=True)
class FailureGuard:
    """Decides whether too many rewards of a step failed."""

    max_share: float = 0.25
    """The share of a step's samples, in [0, 1], that may fail; with 1 the run never stops."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_share <= 1:
            raise ValueError(f"max_share = {self.max_share!r}: expected a share between 0 and 1")

    def judge_away(self, statuses: Sequence[str]) -> bool:
        """Whether `check` finds too many failures, but would not if the judge had been reachable."""
        others = [status for status in statuses if status != "judge_away"]
        return self.check(statuses) is not None and self.check(others) is None

    def check(self, statuses: Sequence[str]) -> str | None:
        """The reason why a step with these statuses must stop the run, or None to continue.

        statuses: of the samples of the step, without padding rows. Raises ValueError for an unknown status.
        """
        step = Counter(statuses)
        unknown = sorted(set(step) - set(STATUSES))
        if unknown:
            raise ValueError(f"status = {unknown[0]!r}: expected one of {', '.join(STATUSES)}")
        failed = sum(step[status] for status in FAILURES)
        share = failed / len(statuses) if statuses else 0.0
        if share <= self.max_share:
            return None
        kinds = ", ".join(f"{step[status]} {status}" for status in FAILURES if step[status])
        return (
            f"{failed} of {len(statuses)} rewards of this step failed ({kinds}): {share:.0%}, more than "
            f"longrl.reward.max_failure_share = {self.max_share:.0%}. The rollout log has the reasons. Fix: repair the "
            "judge or the scorer and rerun the same command to resume, or raise max_failure_share"
        )
