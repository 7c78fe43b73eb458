r"""Math: the last box (or, without any box, the last "Answer:" line) equals the gold answer as mathematics.

math-verify decides: 1/2 = \frac12 = 0.5, {1,2} = {2,1}, x = 3 is 3, 12 km is 12; of a chain of equations the last side
counts. It is told nothing but the box, so no other number in the response can be found instead. Beyond it:

- A percent sign is dropped on both sides, a final full stop too, and a space between thousands.
- A gold answer in words, three letters or more (Monday, no solution), is compared as text, since math-verify would
  multiply its letters. One that math-verify cannot read must be met character by character.
- A sum, product, integral, limit or derivative is no answer where the gold one has none: it is the question, left to
  the grader to work out. (1 + 1 for 2, and an unexpanded polynomial, still pass.)

math-verify's own timeouts need SIGALRM, which exists only in a main thread, so they are off; a huge power hangs until
isolation kills it. Imported on first use: math-verify takes half a second.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from verl_longrl.rewards.matching.answer_match import equals_gold, gold_answers
from verl_longrl.rewards.matching.response_format import parse_boxed, plain_text
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.registry import scorer
from verl_longrl.rewards.score import Score

_MAX_CHARS = 1000  # the parser's time grows with the text; no right answer is longer
_WORDS = re.compile(r"[A-Za-z][A-Za-z' -]{2,}")
_THOUSANDS = re.compile(r"(?<=[0-9])(?:\\[,;:! ]|\s)(?=[0-9]{3}(?![0-9]))")
_TAIL = re.compile(r"(?<=[\w)}\]])\s?\\?%|[\s.,;:]+\Z")


def equivalent(candidate: str, gold: str) -> bool:
    """Whether two answers in LaTeX or plain text are the same mathematics, or the same words. May take for ever."""
    if len(candidate) > _MAX_CHARS:
        return False
    candidate, gold = _trimmed(candidate), _trimmed(gold)
    if candidate == gold:
        return True
    if _WORDS.fullmatch(plain_text(gold)):
        return equals_gold(plain_text(candidate), plain_text(gold))
    wanted, found = _parse(gold), _parse(candidate)
    if not wanted or not found or (_is_unfinished(found) and not _is_unfinished(wanted)):
        return False
    from math_verify import verify

    return bool(verify(wanted, found, timeout_seconds=None))


def _trimmed(text: str) -> str:
    return _THOUSANDS.sub("", _TAIL.sub("", text.strip())).strip()


def _parse(latex: str) -> list[Any]:
    """The expression that `latex` is as a whole, in a list; empty when it cannot be read as one."""
    from math_verify import LatexExtractionConfig, parse

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its timeouts are off
    whole = LatexExtractionConfig(boxed_match_priority=0, try_extract_without_anchor=False)
    return parse(f"\\boxed{{{latex}}}", [whole], fallback_mode="no_fallback", parsing_timeout=None)


def _is_unfinished(parsed: list[Any]) -> bool:
    from sympy import Derivative, Integral, Limit, Product, Sum

    return any(expression.has(Derivative, Integral, Limit, Product, Sum) for expression in parsed)


@scorer(
    "math",
    "math_dapo",
    "lighteval/MATH",
    "DigitalLearningGmbH/MATH-lighteval",
    patterns=("custom_math_*",),
    gold=lambda truth, _: gold_answers(truth),
)
def math(response: str, ground_truth: Any, extra_info: Mapping[str, Any], options: RewardOptions) -> Score:
    """Score a boxed answer; `ground_truth` is the answer or a list of accepted ones, in LaTeX or plain text."""
    golds = gold_answers(ground_truth)
    parsed = parse_boxed(response, require_think=options.require_think, answer_line=True)
    if parsed.error:
        return Score.format_error(parsed.error)
    answer = float(any(equivalent(parsed.answer, gold) for gold in golds))
    return Score(answer, {"answer": answer, "format": 1.0})
