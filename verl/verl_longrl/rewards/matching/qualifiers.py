"""The words and signs that change what an answer says, shared by the rules that compare answers.

Extra words next to an answer are harmless or decisive. Numbers, symbols, negations, hedges and list separators are
decisive: an answer with one of these too many, or too few, is another answer.

| answer | gold answer | verdict | reason |
|---|---|---|---|
| `It is Paris` | `Paris` | right | function words are harmless |
| `not Paris` | `Paris` | wrong | a negation |
| `perhaps Paris` | `Paris` | wrong | a hedge |
| `Paris or Rome` | `Paris` | wrong | a choice is left open |
| `Paris, France` | `Paris` | wrong | a comma may separate two answers |
| `5 + 3` | `5` | wrong | an operator |
| `yes and no` | `yes` | wrong | the opposite of a yes/no answer |
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from verl_longrl.rewards.matching.tokens import FUNCTION_WORDS, is_symbol

POLAR = {"yes": "no", "no": "yes", "true": "false", "false": "true"}
"""Yes/no answers, each with its opposite."""
DENIALS = {"not", "no", "never", "neither", "nor", "none", "without", "except", "cannot"}
# Tokens have no apostrophes: don't is dont.
DENIALS |= {"cant", "isnt", "wasnt", "arent", "dont", "doesnt", "didnt"}
HEDGES = {"or", "either", "maybe", "perhaps", "possibly", "unknown", "unsure"}
_SEPARATORS = re.compile(r",(?![0-9]{3}(?![0-9]))|[;|/\n、；]|(?<!\w)(?:and|&)(?!\w)", re.IGNORECASE)


def find_list_separators(text: str) -> list[str]:
    """The signs and words that separate the members of a list in `text`, in order.

    >>> find_list_separators("Alice, Bob and 1,000 others")
    [',', 'and']
    """
    return _SEPARATORS.findall(text.strip())


def count_content_words(words: Iterable[str]) -> int:
    """The number of tokens that are neither function words nor symbols.

    >>> count_content_words(["the", "capital", "of", "france", "+"])
    2
    """
    return sum(word not in FUNCTION_WORDS and not is_symbol(word) for word in words)


def find_subsequence(words: list[str], run: list[str]) -> int:
    """The index at which `run` first occurs in `words` as consecutive whole tokens; -1 when it does not occur.

    >>> find_subsequence(["in", "new", "york"], ["new", "york"])
    1
    """
    starts = range(len(words) - len(run) + 1)
    return next((start for start in starts if words[start : start + len(run)] == run), -1)
