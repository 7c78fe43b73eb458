"""CorpusQA (arXiv 2601.14952): what the official judge is shown, and a rule that decides before a judge.

Official: the text after the first "The answer is: " on its line, or else the whole response, goes to a judge. The first
match catches sentences of the reasoning, and a list over several lines is cut at the end of the first one.

Strict reads from the last "the answer is" to the end. Numbers are compared by value and lists as multisets, in any
order, "[]" being the empty list. `parts["decided"]` is 1 where that suffices: the answer is equal, or both are numbers
or lists of them and differ, or just one of them is empty. Elsewhere (a text that may be a synonym) it and the score are
0, and a judge may be asked; report the share that it decided.
"""

from __future__ import annotations

import re
from collections import Counter

from verl_longrl.rewards.matching.qualifiers import split_list
from verl_longrl.rewards.matching.tokens import MAX_CHARS, answer_tokens, canonical_number

from recipe.longrl.evaluation.records import Outcome, Row
from recipe.longrl.evaluation.rules.reading import concluding_answer, golds_of, is_right

_PUBLISHED = re.compile(r"The answer is: (.*)")
_EMPTY = re.compile(r"[\s`*]*\[\s*\][\s`*.]*")
_MARK = re.compile(r"\A\s*(?:[-*•]\s+|[0-9]{1,3}[.)]\s+)")


def published_answer(text: str) -> str:
    """The answer that the official judge is shown.

    >>> published_answer("The answer is: Paris\\nThe answer is: Rome")
    'Paris'
    """
    match = _PUBLISHED.search(text)
    return (match[1] if match else text).strip()


def corpusqa_strict(text: str, row: Row) -> Outcome:
    """Whether the answer equals the gold one, as a text, a number or a multiset. `parts`: decided, 1 or 0."""
    (gold,), answer = golds_of(row), concluding_answer(text)
    expected, listed = split_items(gold), split_items(answer)
    both_empty = _EMPTY.fullmatch(gold) and _EMPTY.fullmatch(answer)
    if both_empty or (expected and expected == listed) or is_right(answer, row):
        return Outcome(1.0, answer, {"decided": 1.0})
    differs = not expected or not listed or (_are_numbers(expected) and _are_numbers(listed))
    return Outcome(0.0, answer, {"decided": float(differs)})


def split_items(text: str) -> Counter[str]:
    """The items of a list, as comparable tokens; one item where nothing separates items, none for "[]".

    >>> split_items("['B', 'A']") == split_items("- A\\n- B"), split_items("[]")
    (True, Counter())
    """
    if len(text) > MAX_CHARS:
        return Counter({text: 1})
    items = (" ".join(answer_tokens(_MARK.sub("", item))) for item in split_list(text.strip().strip("[]")))
    return Counter(item for item in items if item)


def _are_numbers(items: Counter[str]) -> bool:
    return bool(items) and all(canonical_number(item) for item in items)
