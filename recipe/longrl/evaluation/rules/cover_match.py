"""Frames (arXiv 2409.12941): cover exact match as QwenLong and GoLongRL publish it, and a strict rule.

Published: NFKD, lower case, articles dropped, "1,000" joined, ASCII punctuation deleted; then the gold answer must be
in the text after the reasoning as whole words. So a list of candidates, or a copy of the articles, is right. The papers
take the better of this and a judge's verdict; this is the part without a judge.
"""

from __future__ import annotations

import re
import string
import unicodedata

from verl_longrl.rewards.matching.response_format import THINK_CLOSE, THINK_OPEN

from recipe.longrl.evaluation.records import Outcome, Row
from recipe.longrl.evaluation.rules.reading import after_think, golds_of, is_right, stated_answer

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_THOUSANDS = re.compile(r"(\d),(\d)")


def normalize(text: str) -> str:
    """A text as cover match compares it.

    >>> normalize("The boss's 1,000 seats")
    'bosss 1000 seats'
    """
    text = _ARTICLES.sub(" ", unicodedata.normalize("NFKD", text).lower())
    return " ".join(_THOUSANDS.sub(r"\1\2", text).translate(_PUNCTUATION).split())


def covers(text: str, gold: str) -> bool:
    """Whether the normalized gold answer is in the normalized text as whole words."""
    expected = normalize(gold)
    return bool(expected) and bool(re.search(rf"\b{re.escape(expected)}\b", normalize(text)))


def cover_match(text: str, row: Row) -> Outcome:
    """Whether a gold answer is anywhere in the text outside <think>...</think>."""
    answer = _without_thinking(text)
    return Outcome(float(any(covers(answer, gold) for gold in golds_of(row))), answer)


def cover_match_strict(text: str, row: Row) -> Outcome:
    """Whether the stated answer is the gold answer and nothing else that makes a claim."""
    answer = stated_answer(text)
    return Outcome(float(is_right(answer, row)), answer)


def _without_thinking(text: str) -> str:
    """`text` without <think>...</think>; if a `</think>` is left, the text after it. As in the released code."""
    last = text.rfind(THINK_CLOSE)
    if last < 0:
        return text.strip()
    # Up to the last closing tag, each opening tag has a closing one, so this takes linear time.
    end = last + len(THINK_CLOSE)
    kept = re.sub(f"{THINK_OPEN}.*?{THINK_CLOSE}", "", text[:end], flags=re.DOTALL) + text[end:]
    return after_think(kept).strip()
