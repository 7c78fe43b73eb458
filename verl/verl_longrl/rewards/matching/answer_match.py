"""Is the answer right? Decided by rule, strictly enough that no known trick wins.

Two texts are compared as tokens, which forgive how an answer is written and keep what it says (see `tokens.py`).
`exact` wants equal tokens. `contain` accepts the gold answer as a run of whole tokens inside a short answer ("The
capital is Paris"). `two_way` also accepts most of the gold answer ("Martin Luther King" for "Martin Luther King Jr.";
see `two_way_match.py`). `f1` wants a token F1 at or above a threshold, with the same numbers, symbols, negations and
hedges. `auto` is each task's own: `two_way` for LoongRL's, `contain` for all others.

In `contain`, yes/no answers must open with the gold word and not mention the other; any further number, operator,
negation, alternative or list next to the gold answer loses, and so do another currency ("€5" for "$5") and more than
`max_length_ratio` times the informative tokens of the gold answer.

What remains possible under `contain` is one extra informative word or unit beside a one-word gold answer ("Paris
France", "5%" or "5 million" for "5"); use `exact` or a judge where that matters. No rule knows synonyms.
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
_LEAD_IN = re.compile(r"\b(?:is|was|are|were)\b|(?<![<>!=])=(?![=>])|:(?=\s)", re.IGNORECASE)


def gold_answers(ground_truth: Any) -> list[str]:
    """The accepted answers: a string, a number or a list of them. Raises GoldError when there is nothing to compare:
    nothing given, text without a word, number or symbol, or something that is no answer (a dict, a list in a list)."""
    values = ground_truth.tolist() if hasattr(ground_truth, "tolist") else ground_truth
    golds = values if isinstance(values, (list, tuple)) else [values]
    if not golds or not all(isinstance(gold, (str, int, float)) and answer_tokens(str(gold)) for gold in golds):
        raise GoldError(values, "has nothing to compare", "a non-empty answer string or a list of them")
    return [str(gold) for gold in golds]


def equals_gold(candidate: str, ground_truth: Any) -> bool:
    """Whether the candidate is one of the gold answers after normalisation."""
    return any(_same(candidate, gold) for gold in gold_answers(ground_truth))


def _same(candidate: str, gold: str) -> bool:
    mine, theirs = _both(candidate, gold)
    return mine == theirs and not _other_currency(candidate, gold)


def _both(candidate: str, gold: str) -> tuple[list[str], list[str]]:
    """The tokens of both, with decimals by value or, where the gold answer wants it, as written; none of a candidate
    too long to be read whole."""
    as_written = decimals_are_names(gold)
    readable = candidate if len(candidate) <= MAX_CHARS else ""
    return answer_tokens(readable, as_written=as_written), answer_tokens(gold, as_written=as_written)


def _other_currency(candidate: str, gold: str) -> bool:
    mine, theirs = currency_signs(candidate), currency_signs(gold)
    return bool(mine and theirs) and mine.isdisjoint(theirs)


def _operators(words: Iterable[str]) -> bool:
    return any(is_symbol(word) and word not in _UNIT_SIGNS for word in words)


def _phrases(words: list[str]) -> list[list[str]]:
    """Each symbol with what it applies to: both neighbours of an operator, the number before a percent sign."""
    return [
        words[max(i - 1, 0) : i + (1 if word in _UNIT_SIGNS else 2)] for i, word in enumerate(words) if is_symbol(word)
    ]


def token_f1(candidate: str, gold: str) -> float:
    """F1 of the token multisets (SQuAD's measure on our tokens), in [0, 1]."""
    return _f1(*_both(candidate, gold))


def _f1(mine: list[str], theirs: list[str]) -> float:
    shared = (Counter(mine) & Counter(theirs)).total()
    return 2 * shared / (len(mine) + len(theirs)) if shared else 0.0


def _states(text: str, gold: str, max_length_ratio: float) -> bool:
    """Whether `text` states `gold` and nothing that competes with it."""
    words, target = _both(text, gold)
    at = find_subsequence(words, target)
    if at < 0 or all(word in FUNCTION_WORDS for word in target):
        return False
    rest = words[:at] + words[at + len(target) :]
    return (
        not (DENIALS | HEDGES).intersection(rest)
        and not number_tokens(rest)
        and not _operators(rest)
        and len(find_list_separators(text)) <= len(find_list_separators(gold))
        and count_content_words(words) <= max_length_ratio * max(1, count_content_words(target))
    )


def _contains(candidate: str, gold: str, max_length_ratio: float) -> bool:
    if DENIALS.intersection(answer_tokens(candidate)) - set(answer_tokens(gold)):
        return False
    lead_ins = [match.end() for match in _LEAD_IN.finditer(candidate)]
    views = [candidate, candidate[lead_ins[-1] :]] if lead_ins else [candidate]
    return any(_states(view, gold, max_length_ratio) for view in views)


def _agrees(words: list[str], polar: str) -> bool:
    """A yes/no answer: opens with the gold word and mentions neither the other one nor a hedge."""
    unsaid = {POLAR[polar], *HEDGES} | ((DENIALS - {"no"}) if polar in ("yes", "true") else set())
    return words[0] == polar and not unsaid.intersection(words) and count_content_words(words) <= 3


def matches_gold(candidate: str, gold: str, options: AnswerOptions, own: AnswerRule = "contain") -> bool:
    """Whether `candidate` gives `gold`, under `options.mode`; own: what `auto` means for this task."""
    mode = own if options.mode == "auto" else options.mode
    mine, theirs = _both(candidate, gold)
    if not mine or _other_currency(candidate, gold):
        return False
    if mine == theirs or mode == "exact":
        return mine == theirs
    if len(theirs) == 1 and theirs[0] in POLAR:
        return _agrees(mine, theirs[0])
    if mode == "contain":
        return _contains(candidate, gold, options.max_length_ratio)
    if mode == "two_way":
        return not is_relative_date(theirs) and (
            _contains(candidate, gold, options.max_length_ratio) or says_most_of(candidate, gold, mine, theirs)
        )
    telling = DENIALS | HEDGES  # these, numbers and symbols decide more than their share of tokens says
    return (
        _f1(mine, theirs) >= options.f1_threshold
        and number_tokens(mine) == number_tokens(theirs)
        and _phrases(mine) == _phrases(theirs)
        and telling.intersection(mine) == telling.intersection(theirs)
    )


def correctness(candidate: str, ground_truth: Any, options: RewardOptions, own: AnswerRule = "contain") -> float:
    """A, the correctness of an answer in [0, 1]: the judge's verdict when there is one, else by rule.

    Every scorer with a judged answer calls this, and returns the answer text as `Score.candidate`; that is
    all a scorer does to support judges. own: the rule of this task where the user chose none (`answer.mode` auto).
    Raises ValueError for an empty ground_truth.
    """
    golds = gold_answers(ground_truth)
    if options.verdict is not None:
        return options.verdict
    return float(any(matches_gold(candidate, gold, options.answer, own) for gold in golds))
