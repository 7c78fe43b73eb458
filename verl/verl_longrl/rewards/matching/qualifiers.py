"""The words and signs that change what an answer says, shared by the rules that compare answers.

Extra words beside an answer are harmless or decisive. Decisive are numbers, symbols, negations, hedges and whatever
separates the members of a list: an answer with one of these too many, or too few, is another answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from verl_longrl.rewards.matching.tokens import FUNCTION_WORDS, is_symbol

POLAR = {"yes": "no", "no": "yes", "true": "false", "false": "true"}
DENIALS = {"not", "no", "never", "neither", "nor", "none", "without", "except", "cannot"}
DENIALS |= {"cant", "isnt", "wasnt", "arent", "dont", "doesnt", "didnt"}  # apostrophes are gone by then
HEDGES = {"or", "either", "maybe", "perhaps", "possibly", "unknown", "unsure"}
_SEPARATORS = re.compile(r",(?![0-9]{3}(?![0-9]))|[;|/\n、；]|(?<!\w)(?:and|&)(?!\w)", re.IGNORECASE)


def find_list_separators(text: str) -> list[str]:
    """What separates the members of a list in `text`, in order; the comma of 1,000 does not."""
    return _SEPARATORS.findall(text.strip())


def count_content_words(words: Iterable[str]) -> int:
    """The number of tokens that are neither function words nor symbols."""
    return sum(word not in FUNCTION_WORDS and not is_symbol(word) for word in words)


def find_subsequence(words: list[str], run: list[str]) -> int:
    """Where `run` first occurs in `words` as consecutive whole tokens, -1 when it does not."""
    spots = (i for i in range(len(words) - len(run) + 1) if words[i : i + len(run)] == run)
    return next(spots, -1)
