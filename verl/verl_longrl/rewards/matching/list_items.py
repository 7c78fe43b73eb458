r"""Compare the lines of an answer, as the items of a list, with the items asked for (GoLongRL, arXiv 2605.19577).

Two items are equal when their tokens are (`tokens.py`): that forgives case, width, quotes, emphasis, brackets,
punctuation and how a number is written. A bullet or number before an item is ignored unless the line with it is an item
that was asked for: `-`, `>`, an arrow, `1.`, `1.1`, `(1)`, `Step 1:`, and letters or Roman numbers that count from the
first line on. An item given twice counts once, at its first place. If tokens would merge two items that were asked for,
only case, width and white space are forgiven. `list_layout.py` finds the items in an answer.

| line | items asked for | verdict | reason |
|---|---|---|---|
| `2. Paris` | `Paris` | right | a number before the item |
| `2. Paris` | `2. Paris` | right | the line as it is was asked for |
| `Paris` | `2. Paris` | wrong | the number belongs to the item |
| `- 5` | `5` | right | a bullet |
| `-5` | `5` | wrong | a negative number |
| `**Paris**` | `Paris` | right | emphasis |
| `Paris, France` | `Paris` | wrong | more than the item |
| `f x` | `f(x)` | right | brackets |
| `f x` | `f(x)` or `f[x]` | wrong | brackets tell the two items apart |

As published, lines are compared in lower case with white space collapsed, and nothing else is forgiven.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from verl_longrl.rewards.matching.list_layout import is_sentence, list_entries
from verl_longrl.rewards.matching.response_format import parse_lines, without_emphasis
from verl_longrl.rewards.matching.tokens import MAX_CHARS, answer_tokens, decimals_are_names
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.score import Score
from verl_longrl.rewards.tasks.golongrl_gold import gold_items

MAX_LINES = 10_000
"""An answer with more lines earns nothing: no right answer is that long, and scoring time stays bounded."""

_SIGNS = (
    r"\A\s*(?:(?:[-+*–—>]|[-=]>|\[[ xX]\]|\\item)\s+|>+\s*"
    r"|[•·‣\u2190-\u21ff\u25a0-\u27bf\u2b00-\u2bff\U0001f300-\U0001faff]\ufe0f?\s*){0,3}"
)
_NUMBER = r"(?:\d{1,3}|[一二三四五六七八九十]{1,3})"
# Numbers before an item, such as (1), 1., 1-, 1.1, 第一步, #1, Step 1:, and signs that are numbers.
_NUMBERS = (
    rf"[(（\[【]\s?{_NUMBER}\s?[)）\]】]",
    r"\d{1,3}\s?\\?[.．、:：)）](?!\d)",
    r"\d{1,3}\s[-–—]\s",
    r"\d{1,3}(?:\.\d{1,3}){1,3}[.)]?\s",
    r"[一二三四五六七八九十]{1,3}[、.．]",
    rf"(?:第{_NUMBER}[步条项个]|步骤\s?{_NUMBER})[:：、]?",
    r"#\d{1,3}[.:)]?\s",
    r"(?:[A-Za-z]{1,12}|[Nn]o\.)\s?#?\d{1,3}\s?(?:[:：)]\s*|[.–-]\s)",
    r"[①-⑳]|\d\ufe0f?\u20e3",
    r"(?i:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|next|then|last|final)(?i:ly)?\s?[:,]\s",
)
# "- 5" has a bullet, but "-5" does not, and "3.1" has no number before an item.
_BULLET = re.compile(rf"{_SIGNS}(?:(?:{'|'.join(_NUMBERS)})[\s.、:：]*)?")
_LETTER = re.compile(_SIGNS + r"(?:\(\s?([A-Za-z]{1,6})\s?\)|([A-Za-z]{1,6})\s?[.):])\s*(?=\S)")
_LETTERS = [chr(letter) for letter in range(ord("a"), ord("z") + 1)]
_ONES = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x")
_ROMAN = [tens + ones for tens in ("", "x", "xx") for ones in _ONES]

Metric = Callable[[Sequence[str], Sequence[str]], float]
"""(items asked for, items listed) -> a value in [0, 1]."""


class Items(NamedTuple):
    """The items asked for and the items listed, in order, spelled so that equal items are equal texts."""

    expected: list[str]
    listed: list[str]

    @property
    def recall(self) -> float:
        """The share of the distinct items asked for that are listed."""
        return len(set(self.expected) & set(self.listed)) / len(set(self.expected))

    @property
    def precision(self) -> float:
        """The share of the distinct items listed that were asked for; 0 for an empty list."""
        return len(set(self.expected) & set(self.listed)) / max(1, len(set(self.listed)))


def comparable_items(golds: Collection[str], lines: Sequence[str]) -> Items:
    """The items of both, each once. More than `MAX_LINES` lines count as an empty list."""
    spelling = _spelling(golds)
    expected = dict.fromkeys(map(spelling, golds))
    if len(lines) > MAX_LINES:
        lines = []
    bullet = _LETTER if _is_lettered(lines) else _BULLET
    return Items(list(expected), list(dict.fromkeys(_item(line, expected, spelling, bullet) for line in lines)))


def listed_items(golds: Collection[str], lines: Sequence[str]) -> Items:
    """As `comparable_items`, of an answer with a list in any layout (`list_layout.py`).

    The layout is ignored where the items asked for, one on a line, would be taken for something else.
    """
    spelling = _spelling(golds)
    expected = set(map(spelling, golds))

    def find_entries(lines: Sequence[str]) -> list[str]:
        return list_entries(lines, lambda text: spelling(text) in expected, sentences=any(map(is_sentence, golds)))

    gold_lines = [gold.strip() for gold in golds]
    if len(lines) <= MAX_LINES and find_entries(gold_lines) == gold_lines:
        lines = find_entries(lines)
    return comparable_items(golds, lines)


def published_items(golds: Collection[str], lines: Sequence[str]) -> Items:
    """The items of both, repeated ones too, in lower case with white space collapsed (as released)."""
    return Items([" ".join(gold.lower().split()) for gold in golds], [" ".join(line.lower().split()) for line in lines])


def _is_lettered(lines: Sequence[str]) -> bool:
    """Whether the lines are numbered a, b, c or i, ii, iii. "A. Smith" alone is a name, but "a) Smith" has a number."""
    if not 0 < len(lines) <= len(_ROMAN):
        return False
    matches = [_LETTER.match(line) for line in lines]
    if len(lines) == 1 and matches[0] and not matches[0][0].rstrip().endswith(")"):
        return False
    letters = [(match[1] or match[2]).lower() for match in matches if match]
    return letters in (_LETTERS[: len(lines)], _ROMAN[: len(lines)])


def _item(line: str, expected: Collection[str], spelling: Callable[[str], str], bullet: re.Pattern[str]) -> str:
    """The item on a line, without its bullet unless the line with the bullet is an item asked for."""
    item = spelling(line)
    if item in expected:
        return item
    bare = bullet.sub("", without_emphasis(line), count=1)
    return spelling(bare) if bare else item


def _spelling(golds: Collection[str]) -> Callable[[str], str]:
    """A function that spells equal items as equal texts.

    Tokens would merge f(x) and f[x]. Where they would make one item of two gold items, only case, width and white space
    are normalized.
    """
    as_written = any(map(decimals_are_names, golds))

    def by_tokens(text: str) -> str:
        words = answer_tokens(text, as_written=as_written) if len(text) <= MAX_CHARS else []
        return " ".join(words) or casefold_normalized(text)

    return (
        by_tokens
        if len(set(map(by_tokens, golds))) == len(set(map(casefold_normalized, golds)))
        else casefold_normalized
    )


def casefold_normalized(text: str) -> str:
    """`text` in one case and Unicode width, with white space collapsed."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def score_items(response: str, ground_truth: Any, options: RewardOptions, metric: Metric, published: Metric) -> Score:
    """Score the lines after `[Answer]` by `metric`, or with `paper_exact` by `published`."""
    golds = gold_items(ground_truth)
    parsed = parse_lines(response, require_think=options.require_think, paper_exact=options.paper_exact)
    if parsed.error:
        return Score.format_error(parsed.error)
    compared = published_items(golds, parsed.answer) if options.paper_exact else listed_items(golds, parsed.answer)
    answer = published(*compared) if options.paper_exact else metric(*compared)
    parts = {"answer": answer, "recall": compared.recall, "precision": compared.precision, "format": 1.0}
    return Score(answer, parts)
