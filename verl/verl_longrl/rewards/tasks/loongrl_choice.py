r"""Multiple choice (LoongRL's MathQA rows): one letter in the last box, and no second one.

Right are (B), B, B., b) and \text{B}, also with the option's text after the marked letter ("(B) 12 km"). A bare letter
before text is an article or a variable, not a choice. Whoever names a second letter has not chosen: after the first, no
letter in parentheses, no capital standing alone and no lone a to e may follow. This also refuses an option's text with
such a letter in it ("(B) 12 C"); the letter alone is always safe.

The released scorer takes the first "(X)" in the box, whatever follows, and knows no bare letter.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from verl_longrl.rewards.matching.answer_match import gold_answers
from verl_longrl.rewards.matching.response_format import parse_boxed, plain_text
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.registry import GoldError, scorer
from verl_longrl.rewards.score import Score

_ALONE = re.compile(r"[\s$*]*([A-Za-z])[\s$*.]*")
_MARKED = re.compile(r"[\s$*]*(?:\(\s?([A-Za-z])\s?\)|([A-Za-z])\s?[).:])(.*)", re.DOTALL)
_ANOTHER = re.compile(r"\(\s?[A-Za-z]\s?\)|(?<!\w)[A-Za-e](?!\w)")


def chosen_letter(text: str) -> str:
    """The one letter that `text` chooses, as a capital; "" when it chooses none or several."""
    text = unicodedata.normalize("NFKC", plain_text(text))
    if match := _ALONE.fullmatch(text):
        return match[1].upper()
    match = _MARKED.fullmatch(text)
    if not match or _ANOTHER.search(match[3]):
        return ""
    return (match[1] or match[2]).upper()


def one_letter(letters: Iterable[str], ground_truth: Any) -> str:
    """The letter that every accepted answer of a ground truth names. Raises GoldError when there is no such letter."""
    letter, *others = set(letters)
    if others or not letter:
        raise GoldError(ground_truth, "is no choice", "one letter such as 'B'")
    return letter


def gold_letter(ground_truth: Any) -> str:
    """The letter asked for. Raises GoldError when `ground_truth` is not one letter."""
    return one_letter(map(chosen_letter, gold_answers(ground_truth)), ground_truth)


@scorer("loongrl_choice", patterns=("custom_mathqa_choice_*",), gold=lambda truth, _: gold_letter(truth))
def loongrl_choice(response: str, ground_truth: Any, extra_info: Mapping[str, Any], options: RewardOptions) -> Score:
    """Score a boxed letter. Raises GoldError when `ground_truth` is not one letter."""
    gold = gold_letter(ground_truth)
    parsed = parse_boxed(response, require_think=options.require_think)
    if parsed.error:
        return Score.format_error(parsed.error)
    answer = float(chosen_letter(parsed.answer) == gold)
    return Score(answer, {"answer": answer, "format": 1.0})
