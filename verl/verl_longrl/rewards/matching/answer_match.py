"""Decide by rule whether an answer is right, strictly enough that no known trick wins.

Two texts are compared as tokens, which forgive how an answer is written and keep what it says (`tokens.py`). The modes:

- `exact`: equal tokens.
- `contain`: the gold answer is a run of whole tokens inside a short answer ("The capital is Paris"). Any further
  number, operator, negation, alternative or list loses, and so do another currency and more than `max_length_ratio`
  times the content words of the gold answer. A yes/no answer must open with the gold word and not mention the opposite.
- `two_way`: `contain`, or most of the gold answer (`two_way_match.py`).
- `f1`: a token F1 at or above `f1_threshold`, with the same numbers, symbols, negations and hedges.
- `auto`: the mode of each task: `two_way` for LoongRL's, `contain` for all others.

In the mode `contain`:

| answer | gold answer | verdict | reason |
|---|---|---|---|
| `The capital is Paris` | `Paris` | right | the gold answer after a lead-in |
| `the Eiffel Tower in Paris` | `Eiffel Tower` | right | three content words are within twice the gold answer's two |
| `the Eiffel Tower in the old city of Paris` | `Eiffel Tower` | wrong | five content words are not |
| `10km` | `10 km` | right | spelling |
| `1,000 men` | `1000 men` | right | spelling |
| `Python 3.1` | `Python 3.10` | wrong | a version number is compared as written |
| `5%` | `5 percent` | right | spelling |
| `€5` | `$5` | wrong | another currency |
| `5` | `$5` | right | the currency may be left out |
| `C++` | `C` | wrong | symbols carry meaning |
| `Paris or Rome` | `Paris` | wrong | an alternative |
| `Yes, it is` | `yes` | right | opens with the gold word |
| `Yes, because the treaty was signed in spring` | `yes` | wrong | too long for a yes/no answer |
| `the` | `The Beatles` | wrong | not the gold answer |
| `Paris France` | `Paris` | right | a known weakness: one extra content word |
| `5%` | `5` | right | a known weakness: one extra unit |

Use `exact` or a judge where the known weaknesses matter. No rule knows synonyms: "United States" is wrong for "US".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from verl_longrl.rewards.matching.qualifiers import (
    DENIALS,
    HEDGES,
    POLAR,
    count_content_words,
    find_list_separators,
    find_subsequence,
)
from verl_longrl.rewards.matching.tokens import (
    FUNCTION_WORDS,
    MAX_CHARS,
    answer_tokens,
    currency_signs,
    decimals_are_names,
    is_symbol,
    number_tokens,
)
from verl_longrl.rewards.matching.two_way_match import is_relative_date, says_most_of
from verl_longrl.rewards.options import AnswerOptions, AnswerRule, RewardOptions
from verl_longrl.rewards.registry import GoldError

_UNIT_SIGNS = {"%", "‰"}
# The last "is", "=" or ": " ends a lead-in: "The capital is Paris" is read as "Paris" too. The = of <= or == does not.
_LEAD_IN = re.compile(r"\b(?:is|was|are|were)\b|(?<![<>!=])=(?![=>])|:(?=\s)", re.IGNORECASE)


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
    candidate_tokens, gold_tokens = _tokenize_pair(candidate, gold)
    return candidate_tokens == gold_tokens and not _names_another_currency(candidate, gold)


def _tokenize_pair(candidate: str, gold: str) -> tuple[list[str], list[str]]:
    """The tokens of both. Decimals are compared by value, or as written where the gold answer requires it.

    A candidate that is too long to be read as a whole has no tokens, so that its beginning is not taken for all of it.
    """
    as_written = decimals_are_names(gold)
    readable = candidate if len(candidate) <= MAX_CHARS else ""
    return answer_tokens(readable, as_written=as_written), answer_tokens(gold, as_written=as_written)


def _names_another_currency(candidate: str, gold: str) -> bool:
    candidate_signs, gold_signs = currency_signs(candidate), currency_signs(gold)
    return bool(candidate_signs and gold_signs) and candidate_signs.isdisjoint(gold_signs)


def _has_operator(words: Iterable[str]) -> bool:
    return any(is_symbol(word) and word not in _UNIT_SIGNS for word in words)


def _symbol_contexts(words: list[str]) -> list[list[str]]:
    """Each symbol with the tokens it applies to: both neighbours of an operator, the number before a percent sign."""
    return [
        words[max(i - 1, 0) : i + (1 if word in _UNIT_SIGNS else 2)] for i, word in enumerate(words) if is_symbol(word)
    ]


def token_f1(candidate: str, gold: str) -> float:
    """F1 of the token multisets (SQuAD's measure on our tokens), in [0, 1]."""
    return _multiset_f1(*_tokenize_pair(candidate, gold))


def _multiset_f1(candidate_tokens: list[str], gold_tokens: list[str]) -> float:
    shared = (Counter(candidate_tokens) & Counter(gold_tokens)).total()
    return 2 * shared / (len(candidate_tokens) + len(gold_tokens)) if shared else 0.0


def _states(text: str, gold: str, max_length_ratio: float) -> bool:
    """Whether `text` states `gold` and nothing that competes with it."""
    words, gold_words = _tokenize_pair(text, gold)
    start = find_subsequence(words, gold_words)
    if start < 0 or all(word in FUNCTION_WORDS for word in gold_words):
        return False
    rest = words[:start] + words[start + len(gold_words) :]
    # Each line below stops one way of naming several answers, or of taking an answer back.
    return (
        not (DENIALS | HEDGES).intersection(rest)
        and not number_tokens(rest)
        and not _has_operator(rest)
        and len(find_list_separators(text)) <= len(find_list_separators(gold))
        and count_content_words(words) <= max_length_ratio * max(1, count_content_words(gold_words))
    )


def _contains(candidate: str, gold: str, max_length_ratio: float) -> bool:
    # A negation counts wherever it is, also before a lead-in: "It is not so: Paris".
    if DENIALS.intersection(answer_tokens(candidate)) - set(answer_tokens(gold)):
        return False
    lead_in_ends = [match.end() for match in _LEAD_IN.finditer(candidate)]
    views = [candidate, candidate[lead_in_ends[-1] :]] if lead_in_ends else [candidate]
    return any(_states(view, gold, max_length_ratio) for view in views)


def _agrees(words: list[str], polar: str) -> bool:
    """Whether a yes/no answer opens with the gold word and mentions neither the opposite nor a hedge."""
    forbidden = {POLAR[polar], *HEDGES}
    if polar in ("yes", "true"):
        # "Yes, it is not" contradicts itself. "No, it is not" does not, and "no" itself counts as the opposite already.
        forbidden |= DENIALS - {"no"}
    return words[0] == polar and not forbidden.intersection(words) and count_content_words(words) <= 3


def matches_gold(candidate: str, gold: str, options: AnswerOptions, auto_mode: AnswerRule = "contain") -> bool:
    """Whether `candidate` gives `gold` under `options.mode`; auto_mode: the mode that `auto` means for this task."""
    mode = auto_mode if options.mode == "auto" else options.mode
    candidate_tokens, gold_tokens = _tokenize_pair(candidate, gold)
    if not candidate_tokens or _names_another_currency(candidate, gold):
        return False
    if candidate_tokens == gold_tokens or mode == "exact":
        return candidate_tokens == gold_tokens
    if len(gold_tokens) == 1 and gold_tokens[0] in POLAR:
        return _agrees(candidate_tokens, gold_tokens[0])
    if mode == "contain":
        return _contains(candidate, gold, options.max_length_ratio)
    if mode == "two_way":
        return not is_relative_date(gold_tokens) and (
            _contains(candidate, gold, options.max_length_ratio)
            or says_most_of(candidate, gold, candidate_tokens, gold_tokens)
        )
    # Mode f1. Qualifiers, numbers and symbols must agree: they decide more than their share of the tokens suggests.
    qualifiers = DENIALS | HEDGES
    return (
        _multiset_f1(candidate_tokens, gold_tokens) >= options.f1_threshold
        and number_tokens(candidate_tokens) == number_tokens(gold_tokens)
        and _symbol_contexts(candidate_tokens) == _symbol_contexts(gold_tokens)
        and qualifiers.intersection(candidate_tokens) == qualifiers.intersection(gold_tokens)
    )


def correctness(candidate: str, ground_truth: Any, options: RewardOptions, auto_mode: AnswerRule = "contain") -> float:
    """A, the correctness of an answer in [0, 1]: the judge's verdict if there is one, otherwise by rule.

    A scorer whose answers may be judged calls this and returns the answer text as `Score.candidate`; it needs to do
    nothing else to support judges. auto_mode: the mode of this task where the user chose none (`answer.mode=auto`).
    Raises ValueError for an empty ground_truth.
    """
    golds = gold_answers(ground_truth)
    if options.verdict is not None:
        return options.verdict
    return float(any(matches_gold(candidate, gold, options.answer, auto_mode) for gold in golds))
