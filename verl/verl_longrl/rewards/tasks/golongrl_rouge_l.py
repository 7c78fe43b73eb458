"""GoLongRL's ROUGE-L: a summary against the closest reference summary (arXiv 2605.19577, task Summary).

Answer form: all text after the last `[Answer]`, or after the reasoning.

Not seen: whether the summary is true; a "not" too many costs one token, and a synonym as much as an error.

F1 of the longest common subsequence of tokens: words and numbers in lower case, and single characters of Chinese and
Japanese; punctuation does not count. On plain English these are the tokens and the values of rouge-score. Padding a
summary lowers precision, and a list of key words lacks their order.

    value = min(ROUGE-L, F1 of the different content words)

Words such as "the" and "of", repeated, share a long subsequence with any text: six of them earn 0.40. The second number
is nearly 0 for them. It is rarely below ROUGE-L for a summary, because it ignores the order.

The summary is the text after the last `[Answer]`, or without one all text after the reasoning. As published, the
reasoning is part of the summary, so a perfect one after 200 sentences of reasoning earns 0.13, and the metric is a
different one (`golongrl_rouge_as_released.py`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rapidfuzz.distance import LCSseq

from verl_longrl.rewards.matching.response_format import parse_text, published_text
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.registry import GoldError, scorer
from verl_longrl.rewards.score import Score
from verl_longrl.rewards.tasks.golongrl_gold import gold_language, gold_references
from verl_longrl.rewards.tasks.golongrl_rouge_as_released import released_rouge_l

_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")

# fmt: off
_STOP_WORDS = {
    "a", "an", "the", "this", "that", "these", "those", "each", "every", "either", "neither", "some", "any", "all",
    "both", "no", "none", "such", "other", "another", "i", "me", "my", "mine", "we", "us", "our", "ours", "you",
    "your", "yours", "he", "him", "his", "she", "her", "hers", "it", "its", "they", "them", "their", "theirs",
    "one", "who", "whom", "whose", "which", "what", "where", "when", "why", "how", "there", "here", "then", "than",
    "and", "or", "nor", "but", "if", "so", "because", "although", "though", "while", "whereas", "unless", "until",
    "as", "not", "only", "also", "too", "very", "just", "about", "above", "across", "after", "against", "along",
    "among", "around", "at", "before", "behind", "below", "beneath", "beside", "between", "beyond", "by", "down",
    "during", "except", "for", "from", "in", "inside", "into", "near", "of", "off", "on", "onto", "out", "outside",
    "over", "since", "through", "throughout", "to", "toward", "towards", "under", "up", "upon", "with", "within",
    "without", "am", "is", "are", "was", "were", "be", "been", "being", "do", "does", "did", "done", "has", "have",
    "had", "having", "can", "could", "may", "might", "must", "shall", "should", "will", "would", "s", "t",
}
# fmt: on


class RougeL(NamedTuple):
    """ROUGE-L of a summary against one reference, all in [0, 1]."""

    precision: float
    recall: float
    f: float


def rouge_tokens(text: str) -> list[str]:
    """Words and numbers in lower case and one Unicode width; each Han or kana character is one token."""
    return _TOKEN.findall(unicodedata.normalize("NFKC", text).lower())


def rouge_l(summary: Sequence[str], reference: Sequence[str]) -> RougeL:
    """ROUGE-L of two token sequences. 50,000 tokens take about a second."""
    common = LCSseq.similarity(summary, reference)
    if not common:
        return RougeL(0.0, 0.0, 0.0)
    precision, recall = common / len(summary), common / len(reference)
    return RougeL(precision, recall, 2 * precision * recall / (precision + recall))


def content_f1(summary: Sequence[str], reference: Sequence[str]) -> float:
    """F1 of the different content words of two token sequences, in [0, 1]; of all words if the reference has no others.

    >>> content_f1("the of the of cat".split(), "the cat of the house".split())
    0.6666666666666666
    """
    expected = set(reference) - _STOP_WORDS or set(reference)
    given = set(summary) - _STOP_WORDS if expected - _STOP_WORDS else set(summary)
    return 2 * len(expected & given) / (len(expected) + len(given))


def gold_tokens(ground_truth: Any) -> list[list[str]]:
    """The tokens of each reference. Raises GoldError for a reference without a word."""
    tokenized = [rouge_tokens(reference) for reference in gold_references(ground_truth)]
    if not all(tokenized):
        raise GoldError(ground_truth, "has a reference without a word", "text")
    return tokenized


@scorer("golongrl_summary", "Summary", gold=lambda truth, _: gold_tokens(truth))
def golongrl_summary(response: str, ground_truth: Any, extra_info: Mapping[str, Any], options: RewardOptions) -> Score:
    """Score a summary; `ground_truth` is a reference, a list of them, or a released row's doc_ids.

    With `paper_exact`, Chinese is split into words where the row names Chinese as its language: a released row in
    `summary`, our own rows in `extra_info.language`. Raises GoldError for a reference without a word.
    """
    references = gold_tokens(ground_truth)
    if options.paper_exact:
        text, error = published_text(response)
        if error:
            return Score.format_error(error)
        chinese = gold_language(ground_truth, extra_info) == "Chinese"
        answer = max(released_rouge_l(text, reference, chinese=chinese) for reference in gold_references(ground_truth))
        return Score.of_answer(answer)
    parsed = parse_text(response, require_think=options.require_think)
    if parsed.error:
        return Score.format_error(parsed.error)
    summary = rouge_tokens(parsed.answer)
    best = max((_rouge_with_content(summary, reference) for reference in references), key=lambda score: score.f)
    parts = {"answer": best.f, "recall": best.recall, "precision": best.precision, "format": 1.0}
    return Score(best.f, parts)


def _rouge_with_content(summary: Sequence[str], reference: Sequence[str]) -> RougeL:
    overlap = rouge_l(summary, reference)
    return overlap._replace(f=min(overlap.f, content_f1(summary, reference)))
