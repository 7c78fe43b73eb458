"""How a response fails, told from its score.

| mode | the response |
|---|---|
| right | earns everything |
| truncated | was cut at the length limit before its answer could be read |
| no_think | never ended its reasoning: its format is broken, and there is no `</think>` |
| no_answer | has no answer of the form that was asked for |
| near_miss | earns at least 0.8 |
| wrong_order | lists all that was asked for and nothing else, and does not earn everything |
| incomplete | lists too little: its recall is below its precision |
| dumping | lists too much: its precision is below its recall |
| partly_right | earns something otherwise |
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
    """One scored response. answer: what its answer earns, in [0, 1]; None where it has no score. recall, precision: of
    what it lists, 0 where a task has no such parts. text: the response itself, where it is known."""

    answer: float | None
    status: str
    reason: str = ""
    recall: float = 0.0
    precision: float = 0.0
    text: str | None = None


def mode(response: Response) -> str:
    """One of `MODES`."""
    if response.answer is None:
        return "failed"
    if response.status == "truncated":
        return "truncated"
    if response.status == "format_error":
        unended = THINK_CLOSE in response.reason or (response.text is not None and THINK_CLOSE not in response.text)
        return "no_think" if unended else "no_answer"
    if response.answer >= RIGHT:
        return "right"
    if response.answer >= NEAR:
        return "near_miss"
    if min(response.recall, response.precision) >= RIGHT:
        return "wrong_order"
    if response.recall != response.precision:
        return "incomplete" if response.recall < response.precision else "dumping"
    return "partly_right" if response.answer > 0 else "wrong"
