"""AA-LCR: read its judge's verdict, and decide by rule what needs no judge.

The official judge replies CORRECT or INCORRECT and nothing else (Artificial Analysis; NVIDIA's packaging compares the
whole reply). A reply that is neither is not a verdict, and must count as a failure, not as a wrong answer: leaving it
out of the mean, as NVIDIA's code does, changes the denominator.
"""

from __future__ import annotations

from recipe.longrl.evaluation.records import Outcome, Row
from recipe.longrl.evaluation.rules.reading import after_think, is_right, stated_answer


def read_verdict(reply: str) -> bool | None:
    """Whether the judge's reply is CORRECT; None unless it is exactly CORRECT or INCORRECT after any reasoning.

    >>> [read_verdict(reply) for reply in ("CORRECT", " INCORRECT\\n", "It is CORRECT", "")]
    [True, False, None, None]
    """
    return {"CORRECT": True, "INCORRECT": False}.get(after_think(reply).strip())


def aa_lcr_strict(text: str, row: Row) -> Outcome:
    """Whether the stated answer is the official one and nothing else that makes a claim.

    Official answers are often sentences, so 0 means "ask a judge", and 1 needs none. `parts`: decided, 1 or 0.
    """
    answer = stated_answer(text)
    right = float(is_right(answer, row))
    return Outcome(right, answer, {"decided": right})
