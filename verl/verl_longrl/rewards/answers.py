"""Is the answer right? Decided by rule, strictly enough that no trick wins.

Two texts are compared as tokens: Unicode-folded, lower-cased, without punctuation and without articles, with
numbers by value (3.0 = 3, 1,000 = 1000). `exact` wants equal tokens. `contain` accepts the gold answer as a
run of whole tokens inside a short answer ("The capital is Paris"). `f1` wants a token F1 at or above a
threshold.

Character-level two-way matching, as published for KeyChain, pays for "the", "e" or "yes" inside "yesterday".
Here the gold answer must occur as whole tokens in the candidate, never the reverse; yes/no answers must open
with the gold word and not mention the other; any further number, negation, alternative or list next to the
gold answer loses; and so does an answer with more than `max_length_ratio` times the informative tokens of the
gold answer. What remains possible is one extra informative word beside a one-word gold answer ("Paris
France"); use `exact` or a judge where that matters.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any

from verl_longrl.rewards.options import AnswerOptions, RewardOptions

MAX_CHARS = 10_000  # an answer beyond this is cut: nothing right is that long, and time stays bounded

_ACRONYM = re.compile(r"\b(?:[^\W\d_]\.){2,}")
_TOKEN = re.compile(
    r"(?:(?<![\w.)])-(?=[0-9]))?(?:[0-9]{1,3}(?:,[0-9]{3}){1,6}|[0-9]{1,30})(?:\.[0-9]{1,30})?(?!\w)"
    r"|[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+"
)
_ARTICLES = {"a", "an", "the"}
_POLAR = {"yes": "no", "no": "yes", "true": "false", "false": "true"}
_DENIALS = {"not", "no", "never", "neither", "nor", "none", "without", "except", "cannot"}
_DENIALS |= {"cant", "isnt", "wasnt", "arent", "dont", "doesnt", "didnt"}  # apostrophes are gone by then
_HEDGES = {"or", "either", "maybe", "perhaps", "possibly", "unknown", "unsure"}
# fmt: off
_FUNCTION_WORDS = _ARTICLES | {
    "of", "in", "on", "at", "to", "by", "for", "from", "with", "as", "is", "was", "are", "were", "be",
    "been", "being", "it", "its", "this", "that", "these", "those", "and", "but", "so", "thus", "i", "we",
    "you", "he", "she", "they", "his", "her", "their", "there", "here", "which", "who", "what", "answer",
    "final", "correct", "therefore", "hence", "because", "has", "have", "had", "do", "does", "did",
}
# fmt: on
_LEAD_IN = re.compile(r"\b(?:is|was|are|were)\b|=|:(?=\s)", re.IGNORECASE)
_SEPARATORS = re.compile(r",(?![0-9]{3}(?![0-9]))|[;|/\n、；]|(?<!\w)(?:and|&)(?!\w)", re.IGNORECASE)


def tokens(text: str) -> list[str]:
    """Comparable tokens of `text` (see the module docstring). An article is dropped only before another
    token, so "Vitamin A" and the choice "A" keep theirs. Han and kana characters are tokens of their own."""
    folded = unicodedata.normalize("NFKC", text[:MAX_CHARS]).casefold().replace("\u2212", "-")
    folded = re.sub(r"['\u2019`]", "", folded)
    folded = _ACRONYM.sub(lambda match: match[0].replace(".", "") + " ", folded)
    found = [_number(token) or token for token in _TOKEN.findall(folded)]
    last = len(found) - 1
    return [token for i, token in enumerate(found) if token not in _ARTICLES or i == last]


def _number(token: str) -> str:
    """The canonical spelling of a number, "" for anything else; leading zeros make an identifier, not a
    number."""
    digits = token.replace(",", "")
    if not re.fullmatch(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?", digits):
        return ""
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return "0" if digits == "-0" else digits


def _numbers(words: Iterable[str]) -> set[str]:
    return {word for word in words if _number(word)}


def _informative(words: Iterable[str]) -> int:
    return sum(word not in _FUNCTION_WORDS for word in words)


def gold_answers(ground_truth: Any) -> list[str]:
    """The accepted answers: a string, a number or a list. Raises ValueError when there is nothing to
    compare."""
    values = ground_truth.tolist() if hasattr(ground_truth, "tolist") else ground_truth
    golds = [str(gold) for gold in values] if isinstance(values, (list, tuple)) else [str(values)]
    if values is None or not golds or not all(tokens(gold) for gold in golds):
        raise ValueError(
            f"ground_truth = {values!r} has nothing to compare; expected a non-empty answer string or a list of them"
        )
    return golds


def equal(candidate: str, ground_truth: Any) -> bool:
    """Whether the candidate is one of the gold answers after normalisation."""
    return any(tokens(candidate) == tokens(gold) for gold in gold_answers(ground_truth))


def token_f1(candidate: str, gold: str) -> float:
    """F1 of the token multisets (SQuAD's measure on our tokens), in [0, 1]."""
    mine, theirs = tokens(candidate), tokens(gold)
    shared = (Counter(mine) & Counter(theirs)).total()
    return 2 * shared / (len(mine) + len(theirs)) if shared else 0.0


def _position(words: list[str], gold: list[str]) -> int:
    """Where `gold` occurs in `words` as a run of whole tokens, -1 when it does not."""
    spots = (i for i in range(len(words) - len(gold) + 1) if words[i : i + len(gold)] == gold)
    return next(spots, -1)


def _states(text: str, gold: str, max_length_ratio: float) -> bool:
    """Whether `text` states `gold` and nothing that competes with it."""
    words, target = tokens(text), tokens(gold)
    at = _position(words, target)
    if at < 0 or not _informative(target):
        return False
    rest = words[:at] + words[at + len(target) :]
    return (
        not (_DENIALS | _HEDGES).intersection(rest)
        and not _numbers(rest)
        and len(_SEPARATORS.findall(text.strip())) <= len(_SEPARATORS.findall(gold.strip()))
        and _informative(words) <= max_length_ratio * _informative(target)
    )


def _contains(candidate: str, gold: str, max_length_ratio: float) -> bool:
    if len(candidate) > MAX_CHARS or _DENIALS.intersection(tokens(candidate)) - set(tokens(gold)):
        return False
    lead_ins = [match.end() for match in _LEAD_IN.finditer(candidate)]
    views = [candidate, candidate[lead_ins[-1] :]] if lead_ins else [candidate]
    return any(_states(view, gold, max_length_ratio) for view in views)


def _agrees(words: list[str], polar: str) -> bool:
    """A yes/no answer: opens with the gold word and mentions neither the other one nor a hedge."""
    unsaid = {_POLAR[polar], *_HEDGES} | ((_DENIALS - {"no"}) if polar in ("yes", "true") else set())
    return words[0] == polar and not unsaid.intersection(words) and _informative(words) <= 3


def matches(candidate: str, gold: str, options: AnswerOptions) -> bool:
    """Whether `candidate` gives `gold`, under `options.mode`."""
    mine, theirs = tokens(candidate), tokens(gold)
    if not mine or mine == theirs:
        return bool(mine)
    if options.mode == "exact":
        return False
    if len(theirs) == 1 and theirs[0] in _POLAR:
        return _agrees(mine, theirs[0])
    if options.mode == "contain":
        return _contains(candidate, gold, options.max_length_ratio)
    telling = _DENIALS | _HEDGES  # words and numbers that decide more than their share of tokens says
    return (
        token_f1(candidate, gold) >= options.f1_threshold
        and _numbers(mine) == _numbers(theirs)
        and telling.intersection(mine) == telling.intersection(theirs)
    )


def correctness(candidate: str, ground_truth: Any, options: RewardOptions) -> float:
    """A, the correctness of an answer in [0, 1]: the judge's verdict when there is one, else by rule.

    Every scorer with a judged answer calls this, and returns the answer text as `Score.candidate`; that is
    all a scorer does to support judges. Raises ValueError for an empty ground_truth.
    """
    golds = gold_answers(ground_truth)
    if options.verdict is not None:
        return options.verdict
    return float(any(matches(candidate, gold, options.answer) for gold in golds))
