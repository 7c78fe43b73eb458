r"""LoongRL's multiple choice (its MathQA rows): one letter in the last box, and no second one.

Answer form: the letter in the last `\boxed{}`.

Not seen: why the letter was chosen; guessing among five earns 0.2 on average.

Right are (B), B, B., b), "B", option B, The answer is B and \text{B}, also with the option's text after the marked
letter ("(B) 12 km", "(B) A dog"). A bare letter before text is an article or a variable, not a choice. An answer that
names a second letter has not chosen: after the first, no letter in parentheses, no separate capital and no separate a
to e may follow, except as an article before a word. This also rejects an option's text with such a letter in it
("(B) 12 C"); the letter alone is always safe.

The released scorer accepts the first "(X)" in the box, whatever follows, and no bare letter.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from verl_longrl.rewards.matching.answer_match import gold_answers
from verl_longrl.rewards.matching.response_format import parse_boxed, plain_text, without_emphasis
from verl_longrl.rewards.matching.tokens import MAX_CHARS
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.registry import GoldError, scorer
from verl_longrl.rewards.score import Score

JOINED = (
    r"(?:[,/;&|+\u3001\uff0c]|vs\.|(?i:and|n?or|vs|versus|to|through|thru|plus|then|also|else|otherwise|alternatively|with"
    r"|together\swith|as\swell\sas|maybe|perhaps|possibly|probably)\b|[和及与或])"
)
"""A sign or word that joins two choices."""
NOT_ARTICLE = rf"(?!(?:[Aa]|I)\s{{1,4}}(?!{JOINED})[A-Za-z]{{2}})"
"""Before a letter: it is not an article or pronoun before a word."""

_LEAD_IN = (
    r"(?:(?:the\s|my\s)?\s?(?:(?:correct|right|best|final)\s)?\s?(?:answer|option|choice|选项|答案)"
    r"(?:\s(?:is|must\sbe|should\sbe)(?!\w)|\s?[:=]|\s?[是为])?\s{0,4}|(?:it\s)?(?:is|must\sbe|should\sbe)\s{1,4})"
)
_AROUND = r"[\s$*.()\[\]\"'\u201c\u201d\u2018\u2019\u300c\u300d]{0,8}"
_ALONE = re.compile(rf"{_AROUND}{_LEAD_IN}{{0,2}}{_AROUND}([A-Za-z]){_AROUND}", re.IGNORECASE)
_MARKED = re.compile(
    rf"[\s$*]{{0,8}}(?:{_LEAD_IN}{{0,2}}(?:[(\[]\s?([A-Za-z])\s?[)\]]|([A-Za-z])(?:\s?[).:]|\s[-–—]\s))"
    rf"|{_LEAD_IN}{{1,2}}([A-Za-z])(?![\w'\u2019+#-]))(.*)",
    re.DOTALL | re.IGNORECASE,
)
_ANOTHER = re.compile(rf"[(\[]\s?[A-Za-z]\s?[)\]]|(?<![\w'\u2019]){NOT_ARTICLE}[A-Za-e](?![\w'\u2019])")


def chosen_letter(text: str) -> str:
    """The one letter that `text` chooses, as a capital; "" when it chooses none or several.

    >>> [chosen_letter(text) for text in ("(b) A dog", "Option B", "A or B", "a dog")]
    ['B', 'B', '', '']
    """
    if len(text) > MAX_CHARS:
        return ""
    text = without_emphasis(unicodedata.normalize("NFKC", plain_text(text)))
    if match := _ALONE.fullmatch(text):
        return match[1].upper()
    match = _MARKED.fullmatch(text)
    if not match or _ANOTHER.search(match[4]):
        return ""
    return (match[1] or match[2] or match[3]).upper()


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
