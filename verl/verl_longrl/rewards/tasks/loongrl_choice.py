r"""LoongRL's multiple choice (its MathQA rows): one letter in the last box, and no second one.

Answer form: the letter in the last `\boxed{}`.

Not seen: why the letter was chosen; guessing among five earns 0.2 on average.

Right are (B), B, B., b) and \text{B}, also with the option's text after the marked letter ("(B) 12 km"). A bare letter
before text is an article or a variable, not a choice. An answer that names a second letter has not chosen: after the
first, no letter in parentheses, no separate capital and no separate a to e may follow. This also rejects an option's
text with such a letter in it ("(B) 12 C"); the letter alone is always safe.

The released scorer accepts the first "(X)" in the box, whatever follows, and no bare letter.
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
    """The one letter that `text` chooses, as a capital; "" when it chooses none or several.

    >>> [chosen_letter(text) for text in ("(b) 12 km", "B.", "A or B", "a dog")]
    ['B', 'B', '', '']
    """
    text = unicodedata.normalize("NFKC", plain_text(text))
    if match := _ALONE.fullmatch(text):
        return match[1].upper()
    match = _MARKED.fullmatch(text)
    if not match or _ANOTHER.search(match[3]):
        return ""
    return (match[1] or match[2]).upper()


def one_letter(letters: Iterable[str], ground_truth: Any) -> str:
    """The letter that every accepted answer of a ground truth names. Raises GoldError unless there is one."""
    letter, *others = set(letters)
    if others or not letter:
        raise GoldError(ground_truth, "is not a choice", "one letter such as 'B'")
    return letter


def gold_letter(ground_truth: Any) -> str:
    """The letter asked for. Raises GoldError unless `ground_truth` is one letter."""
    return one_letter(map(chosen_letter, gold_answers(ground_truth)), ground_truth)


@scorer("loongrl_choice", patterns=("custom_mathqa_choice_*",), gold=lambda truth, _: gold_letter(truth))
def loongrl_choice(response: str, ground_truth: Any, extra_info: Mapping[str, Any], options: RewardOptions) -> Score:
    """Score a boxed letter. Raises GoldError unless `ground_truth` is one letter."""
    gold = gold_letter(ground_truth)
    parsed = parse_boxed(response, require_think=options.require_think)
    return Score.of_answer(float(chosen_letter(parsed.answer) == gold), parsed.error)
