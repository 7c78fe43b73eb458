r"""GoLongRL's multiple choice: the letter in "The correct answer is (X)" (arXiv 2605.19577, task Accuracy).

Answer form: a sentence such as "The correct answer is (X)".

Not seen: why the letter was chosen; guessing among four earns 0.25 on average.

The last such sentence that names a letter is the answer, so a correction counts. Without one, the last line or box may
be the choice itself ("(B) A dog"). The letter may be any, with or without
parentheses ("The answer must be **B**", "Option B is correct.", "正确答案是（Ｂ）", "is \boxed{B}"). A sentence that
names two letters, as "(A) or (B)", "A/B" and "A-D" do, chooses nothing and earns 0; a reason may follow ("(B) because
(A) is wrong").

As published, the first "The correct answer is (X)" counts, or else the first without parentheses, in exactly these
words and with X from A to D.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from verl_longrl.rewards.matching.answer_match import gold_answers
from verl_longrl.rewards.matching.response_format import (
    THINK_CLOSE,
    parse_boxed,
    parse_choices,
    parse_sentence,
    plain_text,
    published_text,
)
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.registry import scorer
from verl_longrl.rewards.score import Score
from verl_longrl.rewards.tasks.golongrl_gold import gold_label
from verl_longrl.rewards.tasks.loongrl_choice import JOINED, NOT_ARTICLE, chosen_letter, one_letter

_MARKED = r"(?:\(\s?[A-Za-z]\s?\)|\[\s?[A-Za-z]\s?\])"
_BARE = rf"(?<![A-Za-z0-9]){NOT_ARTICLE}[A-Za-z](?![A-Za-z0-9_]|['\u2019][A-Za-z])"
_ADVERB = r"(?:clearly|obviously|definitely|certainly|likely|most|therefore|thus|hence|indeed)"
_BEFORE = rf"(?i:{_ADVERB}|the|letter|option|choice)\s|选项"
_NAMED = re.compile(rf"[^\w(\[]{{0,8}}(?:{_BEFORE}){{0,3}}[^\w(\[]{{0,8}}({_MARKED}|{_BARE}|(?<=ption )[A-Za-z]\b)")
_GAP = r"[\s*$\"'()]{0,8}"
_OR = r"(?:(?i:or|maybe|perhaps|possibly)\b|或|也可能)"
# A second letter right after the first one. A reason that follows may name others.
_ANOTHER = re.compile(
    rf"{_GAP}(?:(?:{JOINED}|{_OR}){_GAP}){{0,6}}(?:{_OR}{_GAP}(?:[a-z]{{1,12}}\s){{1,2}})?"
    rf"(?:{_MARKED}|(?!I\b|[a-z]\b){_BARE})"
    rf"|{_GAP}(?:{JOINED}{_GAP}){{1,6}}(?:(?:the\s)?(?:option|choice)\s)?{_BARE}"
    # (A)-(D) and A - D, but not "(B) - A dog" or "(B) - (A) ignores the war".
    rf"|[-–—~](?:{_MARKED}|[A-Za-z]\b)|{_GAP}[-–—~]\s?(?:{_MARKED}|{_BARE})(?!\s[a-z]{{2}})"
    rf"|\.\s?(?:{_MARKED}|{_BARE})\s?(?:[.,;]|\Z)"
)
_PUBLISHED = (re.compile(r"The correct answer is \(([A-D])\)"), re.compile(r"The correct answer is ([A-D])"))


def named_letter(statement: str) -> str | None:
    """The letter that the words after "The correct answer is" choose, as a capital.

    The result is "" when they choose two letters and None when they name none.

    >>> named_letter("option (b), because (C) is wrong"), named_letter("A or B"), named_letter("unclear")
    ('B', '', None)
    """
    text = plain_text(unicodedata.normalize("NFKC", statement)).replace("\\boxed", "").replace("\\", "")
    named = _NAMED.match(text)
    if not named:
        return None
    return "" if _ANOTHER.match(text[named.end() :]) else named[1].strip("()[] ").upper()


def published_letter(text: str) -> str | None:
    """The letter of the first "The correct answer is (X)", as the released code finds it."""
    matches = [pattern.search(text.replace("*", "")) for pattern in _PUBLISHED]
    return next((match[1] for match in matches if match), None)


def gold_choice(ground_truth: Any) -> str:
    """The letter asked for; `ground_truth` is as in `golongrl_choice`. Raises GoldError unless it is one letter."""
    return one_letter(map(_gold_letter, gold_answers(gold_label(ground_truth))), ground_truth)


@scorer("golongrl_choice", "selection", gold=lambda truth, _: gold_choice(truth))
def golongrl_choice(response: str, ground_truth: Any, extra_info: Mapping[str, Any], options: RewardOptions) -> Score:
    """Score a letter; `ground_truth` is the letter, or a released row's golden_label, which may be the whole sentence.

    Raises GoldError unless it is one letter.
    """
    gold = gold_choice(ground_truth)
    if options.paper_exact:
        labels = gold_answers(gold_label(ground_truth))
        text, error = published_text(response)
        letter = published_letter(text.rpartition(THINK_CLOSE)[2])
        return Score.of_answer(float(letter is not None and letter in {*labels, *map(published_letter, labels)}), error)
    parsed = parse_choices(response, require_think=options.require_think)
    letters = [letter for letter in map(named_letter, parsed.answer) if letter is not None]
    if not letters and (letter := _bare_letter(response, options)):
        return Score.of_answer(float(letter == gold))
    error = parsed.error or ("" if letters else '"The correct answer is" names no letter')
    return Score.of_answer(float(bool(letters) and letters[-1] == gold), error)


def _bare_letter(response: str, options: RewardOptions) -> str:
    """The letter that the last line, or the last box, chooses without a sentence: "(B) A dog"."""
    boxed = parse_boxed(response, require_think=options.require_think)
    last_line = parse_sentence(response, require_think=options.require_think)
    return chosen_letter(boxed.answer if not boxed.error else last_line.answer)


def _gold_letter(label: str) -> str:
    stated = [named_letter(statement) for statement in parse_choices(label).answer]
    return chosen_letter(label) or next((letter for letter in stated if letter), "")
