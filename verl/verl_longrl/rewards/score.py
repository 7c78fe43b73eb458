"""`Score`: the result of scoring one response, the same for every task.

A score is a number to train on, the named parts that it was computed from, and a status that says whether the number
can be trusted. Three statuses are about the response (ok, format_error, truncated). Four are failures of the machinery
(timeout, judge_error, judge_away, scorer_error), which are never silently counted as a wrong answer. `Score.metrics`
has the same keys for every task and status, so samples of different tasks can share one batch.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self, get_args

Status = Literal["ok", "format_error", "truncated", "timeout", "judge_error", "judge_away", "scorer_error"]
STATUSES: tuple[Status, ...] = get_args(Status)
FAILURES: tuple[Status, ...] = ("timeout", "judge_error", "judge_away", "scorer_error")

PART_KEYS: tuple[str, ...] = (
    "answer",  # A: correctness of the answer, or the task's own metric, in [0, 1]
    "context",  # F_beta of the cited chunks against the evidence, in [0, 1]
    "recall",  # share of the evidence that was cited, or of the expected values that were listed
    "precision",  # share of the citations that are evidence, or of the list that is expected values
    "format",  # 1 when the response keeps the response contract
    "cited",  # number of distinct chunks cited
    "outside",  # number of distinct cited chunks that are not in the document
)
"""The parts that every task reports. A scorer may add others, its extra parts: they are written to the rollout log, but
not to `Score.metrics`."""

METRIC_KEYS: tuple[str, ...] = ("reward", *PART_KEYS, *(f"status_{s}" for s in STATUSES), "judge_fallback")


class Judgement(NamedTuple):
    """How a judge came to its verdict. verdict: None if it gave none. seconds: including the wait for a free slot.
    attempts: requests that were sent, 0 if the verdict was known."""

    verdict: bool | None
    seconds: float
    attempts: int


@dataclass(frozen=True)
class Score:
    """The result of scoring one response.

    Raises ValueError for an unknown status, and for a value or part that is not finite.
    """

    value: float
    """The reward."""
    parts: dict[str, float] = field(default_factory=dict)
    """The numbers that the reward was computed from, by name."""
    status: Status = "ok"
    reason: str = ""
    """One line for people; empty when there is nothing to explain."""
    candidate: str | None = None
    """The answer that a judge may assess. None when the task is not judged or the response has no answer."""
    cited_ids: tuple[int, ...] = ()
    """The distinct chunks that the response cites, in order, also those that are not in the document."""
    judgement: Judgement | None = None
    """None if no judge was asked."""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status = {self.status!r}: unknown. Fix: use one of {', '.join(STATUSES)}")
        for name, number in (("value", self.value), *self.parts.items()):
            if not math.isfinite(number):
                raise ValueError(f"{name} = {number!r}: is not finite; a reward and its parts must be finite numbers")

    @classmethod
    def of_answer(cls, answer: float, error: str = "") -> Self:
        """The score of a task whose reward is the correctness of the answer, in [0, 1].

        error: the reason why the response has no answer to read; it makes the score a format_error.
        """
        return cls.format_error(error) if error else cls(answer, {"answer": answer, "format": 1.0})

    @classmethod
    def format_error(cls, reason: str) -> Self:
        """The score of a response that breaks the response contract: 0."""
        return cls(0.0, {}, "format_error", reason)

    @property
    def failed(self) -> bool:
        """Whether the machinery, not the response, is to blame."""
        return self.status in FAILURES

    def extra_parts(self) -> str:
        """The parts beyond `PART_KEYS` as one JSON object, such as '{"hops": 2.0}' or "{}".

        One column of text fits every task, whatever its scorer measures, so samples of different tasks can share one
        batch.
        """
        return json.dumps({name: float(self.parts[name]) for name in sorted(set(self.parts) - set(PART_KEYS))})

    def metrics(self) -> dict[str, float]:
        """The score as numbers under `METRIC_KEYS`, which are the same for every task and status.

        A part that does not apply is 0, not NaN: verl averages with plain means and writes JSON, so one NaN would erase
        a whole column. The status indicators tell how many samples a mean is about.
        """
        return {
            "reward": float(self.value),
            **{key: float(self.parts.get(key, 0.0)) for key in PART_KEYS},
            **{f"status_{status}": float(self.status == status) for status in STATUSES},
            "judge_fallback": float(self.status in ("judge_error", "judge_away")),
        }


def scores_to_json(scores: Iterable[Score]) -> bytes:
    """Encode scores for another process, all numbers but the ids of chunks as floats. No judge was asked yet.

    Raises TypeError or ValueError for a part that is not a number, an id that is not an integer, or a reason or
    candidate that is not text.
    """
    return json.dumps([_plain(score) for score in scores]).encode()


def _plain(score: Score) -> list[Any]:
    parts = {str(name): float(number) for name, number in score.parts.items()}
    if not isinstance(score.reason, str) or not isinstance(score.candidate, str | None):
        raise TypeError(f"reason and candidate must be texts, not {score.reason!r} and {score.candidate!r}")
    cited_ids = [operator.index(chunk) for chunk in score.cited_ids]
    return [float(score.value), parts, score.status, score.reason, score.candidate, cited_ids]


def scores_from_json(data: bytes) -> tuple[Score, ...]:
    """Decode what `scores_to_json` wrote. Raises ValueError or TypeError for anything else."""
    scores = tuple(
        Score(value, parts, status, reason, candidate, tuple(cited_ids))
        for value, parts, status, reason, candidate, cited_ids in json.loads(data)
    )
    for score in scores:
        _plain(score)
    if not scores:
        raise ValueError("no score")
    return scores
