"""DocMath-Eval's numbers (arXiv 2311.09805): the published rule, and a strict one.

Published (github.com/yale-nlp/DocMath-Eval, utils/evaluation_utils.py): currency words and units are stripped, what
follows the last "=" or "≈" is evaluated, and anything that cannot be evaluated is 0. With v1 >= v2 the absolute values
of prediction and gold, a number is right if

- v1 / v2 is an exact power of ten, so the sign and the unit are ignored: -31 and 310000 are right for 31;
- v2 times 100, 1000 or 100000 is within 0.15 % of v1;
- v1 and v2 round up to the same three decimals, so 0.0004 is right for 0.0001;
- the prediction is within 0.15 % of the gold.

The released code calls Python's `eval`. Here an arithmetic expression is evaluated, and everything else is 0 as if it
had failed. The answer is read after the last "the answer is", where the released code asks a model to extract it.

Strict: exactly one number in the stated answer, besides numbers of the question, within 0.15 % of the gold with its
sign. Below 0.001, three significant digits must agree. A factor of 100 is forgiven only between a per cent and a
fraction, where question or answer says "per cent" ("5%" is 5 or 0.05); "31.5 million" may be 31.5 where the question
says "million".
"""

from __future__ import annotations

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from verl_longrl.rewards import AnswerOptions
from verl_longrl.rewards.matching.answer_match import matches_gold
from verl_longrl.rewards.matching.qualifiers import DECISIVE
from verl_longrl.rewards.matching.tokens import MAX_CHARS, answer_tokens, canonical_number, is_symbol, number_tokens

from recipe.longrl.evaluation.records import Outcome, Row
from recipe.longrl.evaluation.rules.reading import after_think, question_of, stated_answer

TOLERANCE = 0.0015
"""Relative, of the gold."""
TINY = 1e-3
"""Below this, strict compares three significant digits."""

_STATED = re.compile(r"the answer is[\s:]*([^\n]*)", re.IGNORECASE)
_MAX_EXPRESSION = 300
"""Characters of a prediction; the released patterns take quadratic time, and a longer one is not a number."""
_MONEY = ("£", "€", "¥", "million", "billion", "thousand", "US", "USD", "RMB")
_NUMBER = r"(?:[\d,]*\.*\d+)"
_UNITS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"([-+]?{_NUMBER}) [^0-9 ]+$",
        rf"[^0-9 ]+ ([-+]?{_NUMBER})$",
        rf"([-+]?{_NUMBER})[^\d]{{1,2}}$",
        rf"[^-+\d]{{1,2}}({_NUMBER})$",
    )
)
_PLAIN_NUMBER = re.compile(r"[-+]?(\d{1,3}(,\d{3})*|(\d+))(\.\d+)?$")
_OPTION = re.compile(r"\([a-d]\)")
_OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
_SCALES = {"thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
_PER_CENT = re.compile(r"%|\bper\s?cent|百分", re.IGNORECASE)


def docmath_published(text: str, row: Row) -> Outcome:
    """DocMath-Eval's rule, with the answer after the last "the answer is" (or the whole text without one)."""
    answer = after_think(text).replace("*", "")
    stated = _STATED.findall(answer)
    answer = (stated[-1] if stated else answer).strip().strip(".").strip()
    return Outcome(float(published_match(answer, _gold(row))), answer)


def docmath_strict(text: str, row: Row) -> Outcome:
    """Whether the stated answer is one number, and the right one; yes or no where the gold is a bool."""
    answer, gold, question = stated_answer(text), _gold(row), question_of(row)
    if isinstance(gold, bool):
        words = ("yes", "true") if gold else ("no", "false")
        rules = AnswerOptions()
        return Outcome(float(any(matches_gold(answer, word, rules, question=question) for word in words)), answer)
    values = list(_values(answer, gold, question))
    return Outcome(float(any(is_close(value, gold) for value in values)), answer)


def is_close(value: float, gold: float) -> bool:
    """Whether a value is the gold one up to 0.15 %; below 0.001, up to three significant digits.

    >>> is_close(31.04, 31), is_close(-31, 31), is_close(0.0004, 0.0001)
    (True, False, False)
    """
    if 0 < abs(gold) < TINY:
        return f"{value:.2e}" == f"{gold:.2e}"
    return _within_tolerance(value, gold)


def published_match(prediction: str, gold: bool | int | float) -> bool:
    """The released `get_acc`: normalize, evaluate, compare."""
    value = _evaluate(_normalize(prediction))
    if isinstance(gold, bool):
        return value == gold
    try:
        return isinstance(value, (int, float)) and _published_close(value, gold)
    except (OverflowError, ValueError):
        # The released code fails on an infinite number or one too large, and a failure is wrong there.
        return False


def _published_close(value: float, gold: float) -> bool:
    larger, smaller = max(abs(gold), abs(value)), min(abs(gold), abs(value))
    if smaller and int(math.log10(larger / smaller)) == math.log10(larger / smaller):
        return True
    for least_ratio, factor in ((50, 100), (500, 1000), (50000, 100000)):
        if smaller <= larger / least_ratio and _within_tolerance(smaller * factor, larger):
            return True
    return _round_up(larger) == _round_up(smaller) or _within_tolerance(value, gold)


def _within_tolerance(value: float, gold: float) -> bool:
    margin = abs(gold) * TOLERANCE
    return gold - margin <= value <= gold + margin


def _round_up(number: float) -> float:
    return math.ceil(number * 1000) / 1000


def _normalize(prediction: str) -> str:
    """The released `normalize` up to its `eval`, in the same order."""
    text = prediction.strip().rstrip(".")
    for word in _MONEY:
        text = text.replace(word, "")
    for sign in ("=", "≈"):
        if sign in text:
            text = text.rpartition(sign)[2].strip()
    for sign in "`%$°":
        text = text.replace(sign, "")
    text = {"true": "True", "yes": "True", "false": "False", "no": "False"}.get(text, text)
    text = next((word for word in ("True", "False") if word in text), text)
    if "approximately" in text:
        text = text.replace("approximately", "").strip()
    text = text.partition(" or ")[0]
    if len(text) > _MAX_EXPRESSION:
        return ""
    for pattern in _UNITS:
        if match := pattern.match(text):
            text = match[1]
    text = re.sub(r"10\^(-?\d+)", r"math.pow(10, \1)", text).replace(" x ", "*").replace(" × ", "*")
    if _OPTION.search(text):
        return "'an option'"
    return text.replace(",", "") if _PLAIN_NUMBER.match(text) else text


def _evaluate(expression: str) -> Any:
    """The number or bool that an arithmetic expression is; 0 for anything else, as in the released code."""
    try:
        with warnings.catch_warnings():
            # "1if x else 2" is not a mistake of ours.
            warnings.simplefilter("ignore")
            return _value(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError):
        return 0


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=value):
            return value.real if isinstance(value, complex) else value
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(operand))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left), _value(right))
        case ast.Call(func=ast.Attribute(value=ast.Name(id="math"), attr="pow"), args=[base, exponent]):
            return math.pow(_value(base), _value(exponent))
        case ast.Tuple(elts=items) | ast.List(elts=items):
            # A list of numbers is never right, and one of anything else fails, as in the released code.
            return [_value(item) for item in items]
    raise ValueError("not an arithmetic expression")


def _values(answer: str, gold: float, question: str) -> Iterator[float]:
    """The values that the one number of an answer may have; nothing when there is not exactly one number."""
    words = answer_tokens(re.split("[=≈]", answer)[-1]) if len(answer) <= MAX_CHARS else []
    numbers = [word for word in words if number_tokens([word])]
    known = number_tokens(answer_tokens(question))
    candidates = [number for number in numbers if number not in known] or numbers
    is_computed = any(is_symbol(word) for word in words if word != "%")
    if len(candidates) != 1 or is_computed or not DECISIVE.isdisjoint(words):
        return
    number = canonical_number(candidates[0])
    if not number:
        return
    value, asked = float(number), question.casefold()
    yield value
    for scale, factor in _SCALES.items():
        if scale in asked and scale in answer.casefold():
            yield value / factor
    in_answer, in_question = "%" in words, bool(_PER_CENT.search(question))
    if in_answer or (in_question and abs(gold) <= 1):
        yield value / 100
    if in_question and not in_answer and abs(value) <= 1:
        yield value * 100


def _gold(row: Row) -> bool | int | float:
    if not isinstance(row.gold, (bool, int, float)) or not math.isfinite(row.gold):
        raise ValueError(f"row {row.id!r}: gold = {row.gold!r}: expected a number, or true or false")
    return row.gold
