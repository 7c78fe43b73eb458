r"""The lines of an answer as the items of a list, compared with the items asked for (GoLongRL, arXiv 2605.19577).

Two items are the same when their tokens are (`tokens.py`): that forgives case, width, quotes, emphasis, brackets,
punctuation and how a number is written. A bullet or number before an item is forgiven where the line with it is no item
asked for: "2. Paris" is Paris, unless "2. Paris" was asked for. An item given twice counts once, where it stands first.
If all this would make one item of two that were asked for, only case, width and space are forgiven.

As published, lines are compared after lower-casing and collapsing white space, and nothing else is forgiven.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from verl_longrl.rewards.matching.response_format import parse_lines
from verl_longrl.rewards.matching.tokens import MAX_CHARS, answer_tokens, decimals_are_names
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.score import Score
from verl_longrl.rewards.tasks.golongrl_gold import gold_items

MAX_LINES = 10_000  # an answer with more is worth nothing: no right one is that long, and time stays bounded
_BULLET = re.compile(  # of "- 5" but not of "-5", which is a number
    r"\A\s*(?:[-+*–—]\s+|[•·▪◦‣●○■□]\s*)?"
    r"(?:(?:[(（\[【]\s?(?:\d{1,3}|[一二三四五六七八九十]{1,3})\s?[)）\]】]|\d{1,3}\s?[.．、:：)）](?!\d)"
    r"|[一二三四五六七八九十]{1,3}[、.．]|[①-⑳])[\s.、:：]*)?"
)

Metric = Callable[[Sequence[str], Sequence[str]], float]
"""(items asked for, items listed) -> a value in [0, 1]."""


class Items(NamedTuple):
    """What was asked for and what is listed, in order, spelled so that equal items are equal texts."""

    wanted: list[str]
    listed: list[str]

    @property
    def recall(self) -> float:
        """The share of the distinct items asked for that is listed."""
        return len(set(self.wanted) & set(self.listed)) / len(set(self.wanted))

    @property
    def precision(self) -> float:
        """The share of the distinct items listed that was asked for; 0 for an empty list."""
        return len(set(self.wanted) & set(self.listed)) / max(1, len(set(self.listed)))


def comparable_items(golds: Collection[str], lines: Sequence[str]) -> Items:
    """The items of both, each once, comparable. Nothing is listed by more than `MAX_LINES` lines."""
    spelling = _spelling(golds)
    wanted = dict.fromkeys(map(spelling, golds))
    readable = lines if len(lines) <= MAX_LINES else []
    return Items(list(wanted), list(dict.fromkeys(_item(line, wanted, spelling) for line in readable)))


def published_items(golds: Collection[str], lines: Sequence[str]) -> Items:
    """The items of both, repeated ones too, in lower case and with white space collapsed."""
    return Items([" ".join(gold.lower().split()) for gold in golds], [" ".join(line.lower().split()) for line in lines])


def _item(line: str, wanted: Collection[str], spelling: Callable[[str], str]) -> str:
    item = spelling(line)
    if item in wanted:
        return item
    bare = _BULLET.sub("", line, count=1)
    return spelling(bare) if bare else item


def _spelling(golds: Collection[str]) -> Callable[[str], str]:
    """How items are spelled so that equal ones are equal texts, and no two of `golds` that differ are."""
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
    """`text` in one case and width, white space collapsed."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def score_items(response: str, ground_truth: Any, options: RewardOptions, metric: Metric, published: Metric) -> Score:
    """Score the lines after `[Answer]` by `metric`, or with `paper_exact` by `published`."""
    golds = gold_items(ground_truth)
    parsed = parse_lines(response, require_think=options.require_think, paper_exact=options.paper_exact)
    if parsed.error:
        return Score(0.0, {}, "format_error", parsed.error)
    compared = published_items(golds, parsed.lines) if options.paper_exact else comparable_items(golds, parsed.lines)
    answer = published(*compared) if options.paper_exact else metric(*compared)
    parts = {"answer": answer, "recall": compared.recall, "precision": compared.precision, "format": 1.0}
    return Score(answer, parts)
