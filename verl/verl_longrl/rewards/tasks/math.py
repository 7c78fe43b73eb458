r"""Math: the last box (or without any box the last "Answer:" line) equals the gold answer as mathematics.

Answer form: the last `\boxed{}`, or else the last "Answer:" line.

Not seen: how the result was derived, and its unit. There is no published version, so `paper_exact` changes nothing.

math-verify decides: 1/2 = \frac12 = 0.5, {1,2} = {2,1}, x = 3 is 3, 12 km is 12; of a chain of equations the last side
counts. It is given only the box, so it cannot find another number in the response. In addition:

- A percent sign is dropped on both sides, and so are a final full stop and a space between thousands.
- A gold answer in words of three letters or more (Monday, no solution) is compared as text, because math-verify would
  multiply its letters. One that math-verify cannot read must be matched character by character.
- A sum, product, integral, limit or derivative is wrong where the gold answer has none: it repeats the question and
  leaves it to the grader. (1 + 1 for 2, and an unexpanded polynomial, are still right.)

math-verify's timeouts need SIGALRM, which exists only in a main thread, so they are off; a huge power hangs until
isolation kills it. math-verify is imported on first use because that takes half a second.
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

_MAX_CHARS = 1000
"""The parser's time grows with the text, and no right answer is longer."""
_WORDS = re.compile(r"[A-Za-z][A-Za-z' -]{2,}")
_THOUSANDS = re.compile(r"(?<=[0-9])(?:\\[,;:! ]|\s)(?=[0-9]{3}(?![0-9]))")
_TAIL = re.compile(r"(?<=[\w)}\]])\s?\\?%|[\s.,;:]+\Z")


def is_equivalent(candidate: str, gold: str) -> bool:
    """Whether two answers in LaTeX or plain text are the same mathematics or the same words. It may never return."""
    if len(candidate) > _MAX_CHARS:
        return False
    candidate, gold = _trimmed(candidate), _trimmed(gold)
    if candidate == gold:
        return True
    if _WORDS.fullmatch(plain_text(gold)):
        return equals_gold(plain_text(candidate), plain_text(gold))
    expected, parsed = _parse_latex(gold), _parse_latex(candidate)
    if not expected or not parsed or (_is_unfinished(parsed) and not _is_unfinished(expected)):
        return False
    from math_verify import verify

    return bool(verify(expected, parsed, timeout_seconds=None))


def _trimmed(text: str) -> str:
    return _THOUSANDS.sub("", _TAIL.sub("", text.strip())).strip()


def _parse_latex(latex: str) -> list[Any]:
    """All of `latex` as one expression, in a list; empty when it cannot be read as one."""
    from math_verify import LatexExtractionConfig, parse

    # It warns that its timeouts are off.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    whole = LatexExtractionConfig(boxed_match_priority=0, try_extract_without_anchor=False)
    return parse(f"\\boxed{{{latex}}}", [whole], fallback_mode="no_fallback", parsing_timeout=None)


def _is_unfinished(parsed: list[Any]) -> bool:
    """Whether the expression is an operation that is left to the grader to work out, such as a sum."""
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
    return Score.of_answer(float(any(is_equivalent(parsed.answer, gold) for gold in golds)))
