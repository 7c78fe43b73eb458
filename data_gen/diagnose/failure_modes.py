"""Classify how a response fails, by its score.

| mode | the response |
|---|---|
| right | earns the full reward |
| truncated | was cut at the length limit before its answer could be read |
| no_think | never ended its reasoning: its format is broken, and there is no `</think>` |
| no_answer | has no answer in the required form |
| near_miss | earns at least 0.8 |
| wrong_order | lists exactly the required items, and does not earn the full reward |
| incomplete | lists too little: its recall is below its precision |
| dumping | lists too much: its precision is below its recall |
| partly_right | earns a part of the reward for another reason |
| wrong | earns nothing |
| failed | has no score: the request or the scorer failed; it counts in no rate |
"""

from __future__ import annotations

from typing import NamedTuple

from verl_longrl.rewards.matching.response_format import THINK_CLOSE

MODES = (
    *("right", "truncated", "no_think", "no_answer", "near_miss"),
    *("wrong_order", "incomplete", "dumping", "partly_right", "wrong", "failed"),
)
NEAR = 0.8
RIGHT = 1 - 1e-9


class Response(NamedTuple):
    """One scored response. answer: the reward of its answer, in [0, 1]; None if it has no score. recall, precision: of
    the items that it lists, 0 if the task has no such parts. text: the response itself, if it is known."""

    answer: float | None
    status: str
    reason: str = ""
    recall: float = 0.0
    precision: float = 0.0
    text: str | None = None


def failure_mode(response: Response) -> str:
    """One of `MODES`."""
    if response.answer is None:
        return "failed"
    if response.status == "truncated":
        return "truncated"
    if response.status == "format_error":
        unfinished = THINK_CLOSE in response.reason or (response.text is not None and THINK_CLOSE not in response.text)
        return "no_think" if unfinished else "no_answer"
    if response.answer >= RIGHT:
        return "right"
    if response.answer >= NEAR:
        return "near_miss"
    if min(response.recall, response.precision) >= RIGHT:
        return "wrong_order"
    if response.recall != response.precision:
        return "incomplete" if response.recall < response.precision else "dumping"
    return "partly_right" if response.answer > 0 else "wrong"
