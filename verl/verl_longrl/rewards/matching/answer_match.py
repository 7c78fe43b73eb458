"""Decide by rule whether an answer is right, strictly enough that no known trick wins.

Two texts are compared as tokens, which forgive how an answer is written and keep what it says: numbers, dates and units
by value, names by their words (`tokens.py`, `values.py`). The modes:

- `exact`: equal tokens.
- `contain`: the gold answer, and around it only words that claim nothing: function words and words of the question
  (`commitment.py`). The members of a list may come in any order. A yes/no answer must open with the gold word and not
  mention the opposite.
- `two_way`: `contain`, or the gold answer without words that are harmless to leave out (`two_way_match.py`).
- `f1`: a token F1 at or above `f1_threshold`. Extra words must claim nothing here, too, and the numbers, symbols,
  negations, hedges and bounds must be the same.
- `auto`: the mode of each task: `two_way` for LoongRL's, `contain` for all others.

The question is `extra_info.question`. In the mode `contain`, without a question:

| answer | gold answer | verdict | reason |
|---|---|---|---|
| `The capital is Paris` | `Paris` | right | the answer after a lead-in |
| `the Eiffel Tower in Paris` | `Eiffel Tower` | wrong | Paris is another claim, unless the question has it |
| `Boston Chicago New York City` | `New York City` | wrong | three answers |
| `Paris (London)` | `Paris` | wrong | two answers |
| `10km` | `10 kilometres` | right | spelling |
| `1,000 men` | `1000 men` | right | spelling |
| `five million` | `5,000,000` | right | the same number |
| `April 14, 1943` | `14 April 1943` | right | the same date |
| `Bob and Alice` | `Alice and Bob` | right | the same members |
| `less than 5 million` | `5 million` | wrong | a bound |
| `minus 5` | `5` | wrong | another number |
| `non-linear` | `linear` | wrong | a negation |
| `Python 3.1` | `Python 3.10` | wrong | a version number is compared as written |
| `5%` | `5 percent` | right | spelling |
| `5%` | `5` | wrong | a unit that the gold answer does not have |
| `€5` | `$5` | wrong | another currency |
| `5` | `$5` | right | the currency may be left out |
| `C++` | `C` | wrong | symbols carry meaning |
| `Paris or Rome` | `Paris` | wrong | an alternative |
| `Yes, it is` | `yes` | right | opens with the gold word |
| `The answer is yes` | `yes` | right | opens with it after a lead-in |
| `Yes, because the treaty was signed in spring` | `yes` | wrong | claims that nobody checks |
| `the` | `The Beatles` | wrong | not the gold answer |

No rule knows synonyms ("US" for "United States"), or that two names mean one person. Ask a judge where that matters;
`docs/results/answer_rules.md` measures how often each rule errs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from verl_longrl.rewards.matching.commitment import BOUNDING, Question, commits_to, without_question
from verl_longrl.rewards.matching.qualifiers import (
    AGREEMENT,
    DECISIVE,
    DENIALS,
    HARMLESS,
    HEDGES,
    POINTERS,
    POLAR,
    count_content_words,
    is_number_or_time,
    split_list,
)
from verl_longrl.rewards.matching.tokens import (
    MAX_CHARS,
    Words,
    answer_tokens,
    currency_signs,
    decimals_are_names,
    is_symbol,
    number_tokens,
    split_words,
)
from verl_longrl.rewards.matching.two_way_match import is_relative_date, says_most_of
from verl_longrl.rewards.options import AnswerOptions, AnswerRule, RewardOptions
from verl_longrl.rewards.registry import GoldError

_UNIT_SIGNS = {"%", "‰"}
_AUXILIARIES = {"is", "are", "was", "were", "do", "does", "did", "has", "have", "had", "can", "could", "will", "would"}
_MAX_MEMBERS = 30
_LIST_MARK = re.compile(r"\A(?:[0-9]{1,2}[.)]|[-*•])\s+")
_ORDER_MATTERS = {"order", "rank", "ranking", "sequence", "sort", "chronological", "first", "1st", "顺序", "序"}


def gold_answers(ground_truth: Any) -> list[str]:
    """The accepted answers as texts; `ground_truth` is a string, a number or a list of them.

    Raises GoldError when there is nothing to compare: an empty list, text without a word, number or symbol, or a value
    that cannot be an answer (a dict, a list in a list).
    """
    values = ground_truth.tolist() if hasattr(ground_truth, "tolist") else ground_truth
    golds = values if isinstance(values, (list, tuple)) else [values]
    if not golds or not all(isinstance(gold, (str, int, float)) and answer_tokens(str(gold)) for gold in golds):
        raise GoldError(values, "has nothing to compare", "a non-empty answer string or a list of them")
    return [str(gold) for gold in golds]


def equals_gold(candidate: str, ground_truth: Any) -> bool:
    """Whether the candidate is one of the gold answers after normalisation."""
    return any(_has_equal_tokens(candidate, gold) for gold in gold_answers(ground_truth))


def _has_equal_tokens(candidate: str, gold: str) -> bool:
    candidate_words, gold_words = _split_pair(candidate, gold)
    return candidate_words.words == gold_words and not _names_another_currency(candidate, gold)


def _split_pair(candidate: str, gold: str) -> tuple[Words, list[str]]:
    """The tokens of both. Decimals are compared by value, or as written where the gold answer requires it.

    A candidate that is too long to be read as a whole has no tokens, so that its beginning is not taken for all of it.
    """
    as_written = decimals_are_names(gold)
    readable = candidate if len(candidate) <= MAX_CHARS else ""
    return split_words(readable, as_written=as_written), answer_tokens(gold, as_written=as_written)


def _names_another_currency(candidate: str, gold: str) -> bool:
    candidate_signs, gold_signs = currency_signs(candidate), currency_signs(gold)
    return bool(candidate_signs and gold_signs) and candidate_signs.isdisjoint(gold_signs)


def _symbol_contexts(words: list[str]) -> list[list[str]]:
    """Each symbol with the tokens it applies to: both neighbours of an operator, the number before a percent sign."""
    return [
        words[max(i - 1, 0) : i + (1 if word in _UNIT_SIGNS else 2)] for i, word in enumerate(words) if is_symbol(word)
    ]


def _multiset_f1(candidate_tokens: list[str], gold_tokens: list[str]) -> float:
    shared = (Counter(candidate_tokens) & Counter(gold_tokens)).total()
    return 2 * shared / (len(candidate_tokens) + len(gold_tokens)) if shared else 0.0


def _contains(candidate: str, words: Words, gold: str, gold_words: list[str], question: Question) -> bool:
    return commits_to(words, gold_words, gold, question) or _lists_the_members(candidate, gold, question)


def _lists_the_members(candidate: str, gold: str, question: Question) -> bool:
    """Whether the gold answer is a list, and the candidate lists the same members in another order."""
    gold_members, members = split_list(gold), [_LIST_MARK.sub("", member) for member in split_list(candidate)]
    if not 1 < len(gold_members) == len(members) <= _MAX_MEMBERS or any(map(question.has, _ORDER_MATTERS)):
        return False
    left = {member: answer_tokens(member) for member in gold_members}
    for i, member in enumerate(members):
        # A lead-in is before the first member, and the rest of a sentence after the last.
        is_at_end = i in (0, len(members) - 1)
        words = split_words(member)
        right = [
            gold_member
            for gold_member, gold_words in left.items()
            if words.words == gold_words or (is_at_end and commits_to(words, gold_words, gold_member, question))
        ]
        if not right:
            return False
        del left[right[0]]
    return not left


def _agrees(words: Words, polar: str, question: Question) -> bool:
    """Whether a yes/no answer opens with the gold word, and says nothing but the question's words after it."""
    if polar not in words.words:
        return False
    # The last one, since 是 is also a copula: 答案是是.
    start = len(words.words) - 1 - words.words[::-1].index(polar)
    before, after = words.words[:start], words.words[start + 1 :]
    # "Yes, it is not" contradicts itself, and so does "No, it is". "No" itself counts as the opposite already.
    allowed = DENIALS - {"no", "yes"} if polar in ("no", "false", "否", "错") else set()
    return (
        all(word in HARMLESS or word in POINTERS or question.has(word) for word in before)
        and POLAR.keys().isdisjoint(after)
        and not (allowed and len(after) == 2 and after[-1] in _AUXILIARIES)
        and HEDGES.isdisjoint(after)
        and all(word in HARMLESS | AGREEMENT | allowed or question.has(word) for word in after)
    )


def matches_gold(
    candidate: str, gold: str, options: AnswerOptions, auto_mode: AnswerRule = "contain", *, question: str = ""
) -> bool:
    """Whether `candidate` gives `gold` under `options.mode`.

    auto_mode: the mode that `auto` means for this task. question: the words of the question may be repeated in an
    answer (`commitment.py`).
    """
    mode = auto_mode if options.mode == "auto" else options.mode
    words, gold_words = _split_pair(candidate, gold)
    if not words.words or _names_another_currency(candidate, gold):
        return False
    if words.words == gold_words or mode == "exact":
        return words.words == gold_words
    words = without_question(words, question)
    if len(gold_words) == 1 and gold_words[0] in POLAR:
        return _agrees(words, gold_words[0], Question(question, []))
    asked = Question(question, gold_words)
    gold_size = max(1, count_content_words(gold_words))
    if count_content_words(words.words) > options.max_length_ratio * (gold_size + max(gold_size, asked.size)):
        return False
    if mode == "contain":
        return _contains(candidate, words, gold, gold_words, asked)
    if mode == "two_way":
        return not is_relative_date(gold_words) and (
            _contains(candidate, words, gold, gold_words, asked)
            or says_most_of(candidate, gold, words.words, gold_words, asked)
        )
    return _nearly_equals(words.words, gold_words, options.f1_threshold)


def _nearly_equals(words: list[str], gold_words: list[str], threshold: float) -> bool:
    """Mode f1. Words that decide more than their share of the tokens must agree, and extra words must claim nothing."""
    extra = Counter(words) - Counter(gold_words)
    return (
        _multiset_f1(words, gold_words) >= threshold
        and number_tokens(words) == number_tokens(gold_words)
        and _symbol_contexts(words) == _symbol_contexts(gold_words)
        and DECISIVE.intersection(words) == DECISIVE.intersection(gold_words)
        and all(word in HARMLESS for word in extra)
        and not (is_number_or_time(gold_words) and BOUNDING.intersection(extra))
    )


def correctness(
    candidate: str,
    ground_truth: Any,
    options: RewardOptions,
    auto_mode: AnswerRule = "contain",
    extra_info: Mapping[str, Any] | None = None,
) -> float:
    """A, the correctness of an answer in [0, 1]: the judge's verdict if there is one, otherwise by rule.

    A scorer whose answers may be judged calls this and returns the answer text as `Score.candidate`; it needs to do
    nothing else to support judges. auto_mode: the mode of this task where the user chose none (`answer.mode=auto`).
    extra_info: the row's, for its question. Raises ValueError for an empty ground_truth.
    """
    golds = gold_answers(ground_truth)
    if options.verdict is not None:
        return options.verdict
    question = str((extra_info or {}).get("question") or "")
    return float(any(matches_gold(candidate, gold, options.answer, auto_mode, question=question) for gold in golds))
