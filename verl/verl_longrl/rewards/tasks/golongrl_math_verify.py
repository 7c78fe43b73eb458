r"""Numbers computed from a long document (GoLongRL, arXiv 2605.19577, task math_verify).

The answer is in the last `\boxed{}`, read whole and compared as `math` compares it (`math.py`). Without a box it
is what follows the last "the answer is", or the last line: of that, math-verify's last number or formula counts, so
that "Therefore, the answer is (1,234.5) million dollars" is 1234.5. Either way there is one guess.

As published, math-verify searches the last 500 characters, reasoning included: of a longer box it sees a part. The
published timeouts raise outside a main thread, so that every score was 0 there; here, as in `math.py`, the
killable process is the timeout.

Of a sentence without LaTeX, as published, math-verify hands sums such as 3*(4+5) to sympy.parse_expr, which is Python's
eval. Its regular expression lets digits, brackets and operators through and no name, so there is nothing to call
(`tests/rewards/tasks/test_golongrl_math_verify.py`); what takes for ever ends with the process.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from verl_longrl.rewards.matching.answer_match import gold_answers
from verl_longrl.rewards.matching.response_format import parse_boxed, parse_sentence, published_text
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.registry import scorer
from verl_longrl.rewards.score import Score
from verl_longrl.rewards.tasks.golongrl_gold import gold_label
from verl_longrl.rewards.tasks.math import equivalent

_PUBLISHED_CHARS = 500
_MAX_CHARS = 1000  # as in math.py
_CURRENCY = re.compile(r"(?:US)?[$€£¥](?=\s?-?[0-9.])")
_IN_PARENTHESES = re.compile(r"\(\s?(-?[0-9][0-9,.]{0,40}\s?%?)\s?\)")


@scorer("golongrl_math", patterns=("*math_verify*",), gold=lambda truth, _: gold_answers(gold_label(truth)))
def golongrl_math(response: str, ground_truth: Any, extra_info: Mapping[str, Any], options: RewardOptions) -> Score:
    """Score a number or formula; `ground_truth` is it, or a list of accepted ones, or a released row's golden_label."""
    golds = gold_answers(gold_label(ground_truth))
    if options.paper_exact:
        text, error = published_text(response)
        return _score(bool(text) and is_right_as_published(text[-_PUBLISHED_CHARS:], golds), error)
    boxed = parse_boxed(response, require_think=options.require_think)
    if not boxed.error:
        return _score(any(equivalent(boxed.answer, gold) for gold in golds))
    stated = parse_sentence(response, require_think=options.require_think)
    return _score(any(_says(stated.answer, gold) for gold in golds), stated.error)


def _says(sentence: str, gold: str) -> bool:
    """Whether a sentence is the gold answer, or its last number or formula is."""
    if len(sentence) > _MAX_CHARS:
        return False
    plain = sentence if "\\" in sentence or sentence.count("$") > 1 else _CURRENCY.sub("", sentence)
    found = _extracted(_IN_PARENTHESES.sub(r"\1", plain))
    return equivalent(sentence, gold) or (len(found) > 1 and equivalent(str(found[1]), gold))


def is_right_as_published(text: str, golds: list[str]) -> bool:
    """Whether what math-verify finds in `text` is a gold answer, as a string or as mathematics. May take for ever."""
    from math_verify import verify

    found = _extracted(text)
    if len(found) < 2:
        return False
    return found[1] in golds or any(
        verify(_extracted(f"\\boxed{{{gold}}}"), found, timeout_seconds=None) for gold in golds
    )


def _extracted(text: str) -> list[Any]:
    """What math-verify finds in `text`: an expression and the string that it was read from, or nothing."""
    from math_verify import parse

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its timeouts are off
    return parse(text, parsing_timeout=None)


def _score(right: bool, error: str = "") -> Score:
    if error:
        return Score.format_error(error)
    return Score(float(right), {"answer": float(right), "format": 1.0})
