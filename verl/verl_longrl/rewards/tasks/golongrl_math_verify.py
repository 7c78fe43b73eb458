r"""GoLongRL's math-verify: numbers computed from a long document (arXiv 2605.19577, task math_verify).

Answer form: the last `\boxed{}`, or else the text after the last "the answer is", or the last line.

Not seen: how the number was computed, and its unit.

The answer is the whole text in the last `\boxed{}`, compared as `math` compares it (`math.py`). Without a box it is the
text after the last "the answer is", or the last line: math-verify's last number or formula in it counts, so "Therefore,
the answer is (1,234.5) million dollars" is 1234.5. Either way there is one guess.

As published, math-verify searches the last 500 characters, reasoning included, so it sees only a part of a longer box.
The published timeouts raise outside a main thread, which made every score 0 there; here, as in `math.py`, math-verify
runs in a process that has a deadline.

For a sentence without LaTeX, as published, math-verify passes sums such as 3*(4+5) to sympy.parse_expr, which is
Python's eval. Its regular expression lets through digits, brackets and operators but no names, so there is nothing to
call (`tests/rewards/tasks/test_golongrl_math_verify.py`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from verl_longrl.rewards.matching.answer_match import gold_answers
from verl_longrl.rewards.matching.number_size import has_more_digits
from verl_longrl.rewards.matching.response_format import (
    parse_boxed,
    parse_sentence,
    published_text,
    without_emphasis,
)
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.registry import scorer
from verl_longrl.rewards.score import Score
from verl_longrl.rewards.tasks.golongrl_gold import gold_label
from verl_longrl.rewards.tasks.math import MAX_CHARS, MAX_DIGITS, is_equivalent, is_equivalent_to_any, is_right

_PUBLISHED_CHARS = 500
_CURRENCY = re.compile(r"(?:US)?[$€£¥](?=\s?-?[0-9.])")
_IN_PARENTHESES = re.compile(r"\(\s?(-?[0-9][0-9,.]{0,40}\s?%?)\s?\)")


@scorer("golongrl_math", patterns=("*math_verify*",), gold=lambda truth, _: gold_answers(gold_label(truth)))
def golongrl_math(response: str, ground_truth: Any, extra_info: Mapping[str, Any], options: RewardOptions) -> Score:
    """Score a number or formula; `ground_truth` is one, a list of accepted ones, or a released row's golden_label."""
    golds = gold_answers(gold_label(ground_truth))
    if options.paper_exact:
        text, error = published_text(response)
        right, reason = (
            is_right(is_right_as_published, text[-_PUBLISHED_CHARS:], golds, options) if text else (False, "")
        )
        return Score.of_answer(float(right), error or reason)
    boxed = parse_boxed(response, require_think=options.require_think)
    stated = parse_sentence(response, require_think=options.require_think)
    if boxed.error and stated.error:
        return Score.format_error(stated.error)
    compare, text = (is_stated, stated.answer) if boxed.error else (is_equivalent_to_any, boxed.answer)
    right, reason = is_right(compare, text, golds, options)
    return Score.of_answer(float(right), reason)


def is_stated(sentence: str, golds: list[str]) -> bool:
    """Whether a sentence is a gold answer, or its last number or formula is. It may never return."""
    return any(_states(sentence, gold) for gold in golds)


def _states(sentence: str, gold: str) -> bool:
    if len(sentence) > MAX_CHARS:
        return False
    if is_equivalent(sentence, gold):
        return True
    sentence = without_emphasis(sentence)
    plain = sentence if "\\" in sentence or sentence.count("$") > 1 else _CURRENCY.sub("", sentence)
    extracted = [] if has_more_digits(plain, MAX_DIGITS) else _extract(_IN_PARENTHESES.sub(r"\1", plain))
    return len(extracted) > 1 and is_equivalent(str(extracted[1]), gold)


def is_right_as_published(text: str, golds: list[str]) -> bool:
    """Whether math-verify finds a gold answer in `text`, as a string or as mathematics. It may never return."""
    from math_verify import verify

    extracted = _extract(text)
    if len(extracted) < 2:
        return False
    return extracted[1] in golds or any(
        verify(_extract(f"\\boxed{{{gold}}}"), extracted, timeout_seconds=None) for gold in golds
    )


def _extract(text: str) -> list[Any]:
    """The expression that math-verify finds in `text` and the string that it read it from; empty if it finds none."""
    from math_verify import parse

    # It warns that its timeouts are off.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    return parse(text, parsing_timeout=None)
