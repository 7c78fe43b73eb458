"""State that the hooks of one training step share."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from verl_longrl.trainer.checksums import Written

Scores = list[dict[str, Any]]
"""The flat score dictionaries of rollouts (`Score.metrics()`)."""


class ResumePoint(NamedTuple):
    """All that a checkpoint holds besides the weights, as it was when a step began.

    data: the data loader's state. waiting: items of the data set whose groups are kept for the next step.
    advantages: the state of `Advantages`.
    """

    data: Any
    waiting: list[int]
    advantages: dict[str, Any]


@dataclass
class StepState:
    """Made new by `on_step_begin`, so no hook sees a value of an earlier step."""

    resume_point: ResumePoint | None = None
    """The state before this step, which is saved when the step is given up."""
    update_begun: bool = False
    """From then on the ranks no longer hold the weights of before the step."""
    keys: list[str] = field(default_factory=list)
    """TransferQueue's keys of the rollouts that are trained on, without padding rows."""
    scores: Scores = field(default_factory=list)
    """One for each of `keys`."""
    filtered: list[Scores] = field(default_factory=list)
    """The scores of each group that the group filter replaced."""
    prefill: tuple[int, int] = (0, 0)
    """The router's counts when they were last read: prompt tokens prefilled, and prompt tokens of all requests."""
    routing: dict[str, float] = field(default_factory=dict)
    """Metrics of the router for this step."""
    unsealed: tuple[Path, dict[str, Written]] | None = None
    """A checkpoint that is written and does not count yet: its folder, and the files that ranks have synced."""

    @property
    def sampled(self) -> Scores:
        """The scores of all rollouts of the step: those trained on, then those that were filtered out."""
        return self.scores + flatten_groups(self.filtered)


def flatten_groups(groups: list[Scores]) -> Scores:
    return [score for group in groups for score in group]
