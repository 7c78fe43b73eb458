r"""Math: the last box (or without any box the last "Answer:" line) equals the gold answer as mathematics.

Answer form: the last `\boxed{}`, or else the last "Answer:" line.

Not seen: how the result was derived, and its unit. There is no published version, so `paper_exact` changes nothing.

math-verify decides: 1/2 = \frac12 = 0.5, {1,2} = {2,1}, x = 3 is 3, 12 km is 12; of a chain of equations the last side
counts. It is given only the box, so it cannot find another number in the response. In addition:

- A percent sign is dropped on both sides, and so are a final full stop, a space between thousands, a sign of dollars
  before a number, and emphasis, quotes, tags, colours and "The answer is" around an answer.
- A gold answer in words of three letters or more (Monday, no solution) is compared as text, because math-verify would
  multiply its letters. One that math-verify cannot read must be matched character by character.
- Numbers below 10^-6 must agree in their first digits: math-verify by itself rounds to six decimals, where all of them
  are equal.
- An operation that the gold answer does not have is wrong: it repeats the question and leaves it to the grader. This is
  a sum, product, integral, limit or derivative, a gcd, lcm, modulus, determinant, absolute value, rounding or maximum,
  and arithmetic of whole matrices or sets. (1 + 1 for 2, 5! for 120, and an unexpanded polynomial, are still right.)

Numbers of more than 10,000 digits are refused before they are computed. math-verify runs in a process that has a
deadline (`isolation/cpu_deadline.py`), since its own timeouts need SIGALRM, which exists only in a main thread. An
answer that takes longer is at fault, so its score is a format_error, not a timeout. math-verify is imported on first
use because that takes half a second.

Rows of verl's GSM8K (the answer after "####") and of DAPO are scored as they are.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

from verl_longrl.rewards.isolation import cpu_deadline
from verl_longrl.rewards.matching.answer_match import equals_gold, gold_answers
from verl_longrl.rewards.matching.number_size import has_more_digits
from verl_longrl.rewards.matching.response_format import parse_boxed, plain_text, without_emphasis
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.registry import scorer
from verl_longrl.rewards.score import Score

MAX_CHARS = 1000
"""The parser's time grows with the text, and no right answer is longer."""
PARSER_S = 1.0
"""CPU time for comparing one response, or a quarter of `timeout_s` if that is less. The usual time is a millisecond."""
MAX_DIGITS = 10_000
"""Digits of a number in an answer that math-verify may be asked to compute."""
_WORDS = re.compile(r"[A-Za-z][A-Za-z' -]{2,}")
_THOUSANDS = re.compile(r"(?<=[0-9])(?:\\[,;:! ]|\s)(?=[0-9]{3}(?![0-9]))")
_DOLLARS = re.compile(r"\A(-?)\s?(?:\\\$|\$(?=[^$]*\Z))\s?(?=[0-9.])")
_WIDE_DIGITS = {ord("０") + digit: str(digit) for digit in range(10)}
# Around an answer: HTML tags, commands for display, colours and lines, and words that lead to it. And two spellings.
_REWRITES = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (r"</?[a-z]{1,6}>|\\[\[\]]|\\(?:underline|(?:text)?color\s?\{[a-z]{1,20}\})(?![a-z])", ""),
        (r"\A(?:\\text\s?\{)?\s?(?:the )?(?:final |correct )?answer\s?(?:is(?![a-z])|:)\s?\}?", ""),
        (r"(?<=[0-9])e([+-]?[0-9]{1,3})(?![0-9a-z])", r"\\times 10^{\1}"),
        ("°", r"^\\circ"),
    )
)
_TAIL = re.compile(r"(?<=[\w)}\]])\s?\\?%|[\s.,;:]+\Z")
# math-verify computes these while it parses. It keeps the others as operations, which `_operations` finds.
_COMPUTED_IN_PARSING = re.compile(r"(?<![A-Za-z])(?:gcd|lcm|det|tr|rank|[vV]matrix)(?![A-Za-z])")


def load_parser() -> None:
    """Import math-verify and what it imports on first use, which takes a second.

    If math-verify is not installed, each score of the math scorers says so.
    """
    with contextlib.suppress(ImportError):
        is_equivalent("(x-1)(x+1)", "x^2-1")


def is_right(
    compare: Callable[[str, list[str]], bool], text: str, golds: list[str], options: RewardOptions
) -> tuple[bool, str]:
    """Whether `compare(text, golds)`, run with a deadline, and the reason why it has no result ("" when it has one)."""
    seconds = min(PARSER_S, options.timeout_s / 4)
    try:
        return cpu_deadline.run(compare, text, golds, seconds=seconds), ""
    except cpu_deadline.CpuDeadlineError as error:
        return (
            False,
            f"the answer cannot be compared as mathematics: math-verify {error} (limit {seconds:g} s of CPU time)",
        )


def is_equivalent_to_any(candidate: str, golds: list[str]) -> bool:
    """Whether the candidate is one of the gold answers as mathematics or as words. It may never return."""
    return any(is_equivalent(candidate, gold) for gold in golds)


def is_equivalent(candidate: str, gold: str) -> bool:
    """Whether two answers in LaTeX or plain text are the same mathematics or the same words. It may never return."""
    if len(candidate) > MAX_CHARS:
        return False
    candidate, gold = _trimmed(candidate), _trimmed(gold)
    if candidate == gold:
        return True
    if _WORDS.fullmatch(plain_text(gold)):
        return equals_gold(plain_text(candidate), plain_text(gold))
    if has_more_digits(candidate, MAX_DIGITS):
        return False
    if not {*_COMPUTED_IN_PARSING.findall(candidate)} <= {*_COMPUTED_IN_PARSING.findall(gold)}:
        return False
    expected, parsed = _parse_latex(gold), _parse_latex(candidate)
    return bool(expected and parsed) and _operations(parsed) <= _operations(expected) and _verify(expected, parsed)


def _trimmed(text: str) -> str:
    text = without_emphasis(text.strip().strip('"\u201c\u201d')).translate(_WIDE_DIGITS)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return _DOLLARS.sub(r"\1", _THOUSANDS.sub("", _TAIL.sub("", text.strip())).strip())


def _parse_latex(latex: str) -> list[Any]:
    """All of `latex` as one expression, in a list; empty when it cannot be read as one."""
    from math_verify import LatexExtractionConfig, parse

    # It warns that its timeouts are off.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    whole = LatexExtractionConfig(boxed_match_priority=0, try_extract_without_anchor=False)
    return parse(f"\\boxed{{{latex}}}", [whole], fallback_mode="no_fallback", parsing_timeout=None)


def _operations(parsed: list[Any]) -> set[str]:
    """The operations in an expression that are left to the grader to work out, such as a sum."""
    import sympy

    operations = (
        *(sympy.Derivative, sympy.Integral, sympy.Limit, sympy.Product, sympy.Sum),
        *(sympy.Mod, sympy.Abs, sympy.floor, sympy.ceiling, sympy.Max, sympy.Min),
        *(sympy.re, sympy.im, sympy.arg, sympy.conjugate, sympy.Intersection, sympy.Complement),
        *(sympy.MatMul, sympy.MatAdd, sympy.MatPow, sympy.Inverse, sympy.Transpose, sympy.Determinant, sympy.Trace),
    )
    names = {kind.__name__ for kind in operations for expression in parsed if expression.has(kind)}
    powers = (power for expression in parsed for power in expression.atoms(sympy.Pow))
    return names | {"MatPow" for power in powers if power.base.has(sympy.MatrixBase)}


def _verify(expected: list[Any], parsed: list[Any]) -> bool:
    from math_verify import verify

    zeros = max(map(_zeros_after_point, (*expected, *parsed)))
    return bool(
        verify(
            expected,
            parsed,
            float_rounding=max(6, zeros + 4),
            numeric_precision=15 + zeros,
            timeout_seconds=None,
        )
    )


def _zeros_after_point(expression: Any) -> int:
    """The zeros between the point and the first digit of the smallest number in an expression: 2 for 0.003."""
    from sympy import Basic, log, preorder_traversal

    nodes = preorder_traversal(expression) if isinstance(expression, Basic) else iter(expression)
    zeros = 0
    for node in nodes:
        if not getattr(node, "is_number", False) or node.is_zero is not False or not node.is_finite:
            continue
        zeros = max(zeros, -int(log(abs(node), 10).evalf(6) // 1) - 1)
        if isinstance(expression, Basic):
            nodes.skip()
    return zeros


@scorer(
    "math",
    "math_dapo",
    "math_dapo_reasoning",
    "openai/gsm8k",
    "lighteval/MATH",
    "DigitalLearningGmbH/MATH-lighteval",
    "HuggingFaceH4/MATH-500",
    patterns=("custom_math_*",),
    gold=lambda truth, _: gold_answers(truth),
)
def math(response: str, ground_truth: Any, extra_info: Mapping[str, Any], options: RewardOptions) -> Score:
    """Score a boxed answer; `ground_truth` is the answer or a list of accepted ones, in LaTeX or plain text."""
    golds = gold_answers(ground_truth)
    parsed = parse_boxed(response, require_think=options.require_think, answer_line=True)
    if parsed.error:
        return Score.format_error(parsed.error)
    right, error = is_right(is_equivalent_to_any, parsed.answer, golds, options)
    return Score.of_answer(float(right), error)
