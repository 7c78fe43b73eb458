"""Every task, whatever it measures, answers with the same small value: a `Score`.

A score is a number to train on, the named parts it was made of, and a status that says whether the number
means what it should. Three statuses are about the response (ok, format_error, truncated) and four are failures of the
machinery (timeout, judge_error, judge_away, scorer_error): those are never silently a wrong answer.
`Score.metrics` gives the same keys for every task and status, so samples of different tasks can share one
batch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Status = Literal["ok", "format_error", "truncated", "timeout", "judge_error", "judge_away", "scorer_error"]
STATUSES: tuple[Status, ...] = get_args(Status)
FAILURES: tuple[Status, ...] = ("timeout", "judge_error", "judge_away", "scorer_error")

PART_KEYS: tuple[str, ...] = (
    "answer",  # A: correctness of the answer, or the task's own metric, in [0, 1]
    "context",  # F_beta of the cited chunks against the evidence, in [0, 1]
    "recall",  # share of the evidence that was cited, or of the values asked for that were listed
    "precision",  # share of the citations that are evidence, or of the list that is values asked for
    "format",  # 1 when the response keeps the response contract
    "cited",  # number of distinct chunks cited
    "outside",  # number of distinct cited chunks that the document does not have
)
"""The parts every task reports. A scorer may add its own: `own_parts`, which reach the rollout dump, not `metrics`."""

METRIC_KEYS: tuple[str, ...] = ("reward", *PART_KEYS, *(f"status_{s}" for s in STATUSES), "judge_fallback")


@dataclass(frozen=True)
class Score:
    """The outcome of scoring one response.

    value: the reward. parts: what it was made of, by name. status: one of `STATUSES`. reason: one line for
    people, empty when there is nothing to explain. candidate: the answer text that a judge may assess; None
    when the task has no judged answer or the response has no answer.

    Raises ValueError for an unknown status and for a value or part that is not finite.
    """

    value: float
    parts: dict[str, float] = field(default_factory=dict)
    status: Status = "ok"
    reason: str = ""
    candidate: str | None = None

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status {self.status!r} is unknown; use one of {', '.join(STATUSES)}")
        for name, number in (("value", self.value), *self.parts.items()):
            if not math.isfinite(number):
                raise ValueError(f"{name} = {number!r} is not finite; a reward and its parts must be finite numbers")

    @property
    def failed(self) -> bool:
        """Whether the machinery, not the response, is to blame."""
        return self.status in FAILURES

    def extra_parts(self) -> str:
        """The parts beyond `PART_KEYS` as one JSON object, "{}" when there are none: one column of text for every task,
        whatever its scorer measures, so that samples of different tasks can share one batch."""
        return json.dumps({name: float(self.parts[name]) for name in sorted(set(self.parts) - set(PART_KEYS))})

    def metrics(self) -> dict[str, float]:
        """Flat numbers under `METRIC_KEYS`, the same for every task and status.

        A part that does not apply is 0, not nan: verl averages with plain means and writes JSON, and
        one nan would erase a whole column. The status indicators say how many samples a mean is really about.
        """
        return {
            "reward": float(self.value),
            **{key: float(self.parts.get(key, 0.0)) for key in PART_KEYS},
            **{f"status_{status}": float(self.status == status) for status in STATUSES},
            "judge_fallback": float(self.status in ("judge_error", "judge_away")),
        }


def scores_to_json(scores: Iterable[Score]) -> bytes:
    """Scores to be read by another process, all numbers as floats. Raises TypeError, ValueError for a part that is no
    number and a reason or candidate that is no text."""
    return json.dumps([_plain(score) for score in scores]).encode()


def _plain(score: Score) -> list[Any]:
    parts = {str(name): float(number) for name, number in score.parts.items()}
    if not isinstance(score.reason, str) or not isinstance(score.candidate, str | None):
        raise TypeError(f"reason and candidate are texts, not {score.reason!r} and {score.candidate!r}")
    return [float(score.value), parts, score.status, score.reason, score.candidate]


def scores_from_json(data: bytes) -> tuple[Score, ...]:
    """What `scores_to_json` made. Raises ValueError, TypeError for anything else."""
    scores = tuple(Score(*values) for values in json.loads(data))
    for score in scores:
        _plain(score)
    if not scores:
        raise ValueError("no score")
    return scores
