"""One answer, met exactly (GoLongRL, arXiv 2605.19577, tasks EM and Accuracy).

`golongrl_retrieval` (EM) answers with the bare text: all of the answer, or else the one that it gives in plain words
("The answer is 42", or the last line), is the text asked for. `golongrl_qa` (Accuracy) answers in the first line after
`[Answer]`; where letters were asked for, "(B) Paris" is B and "A, C" is AC. What follows the first line is not read.

Texts are equal when their tokens are (`tokens.py`): case, width, quotes, emphasis and punctuation are forgiven, another
word is not. Either way there is one guess, so that naming several answers never pays: "A/B" is neither A nor B.

As published, EM is equality of the characters after the reasoning, and Accuracy equality of the first line anywhere
after the last `[Answer]` in lower case.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from verl_longrl.rewards.matching.answer_match import equals_gold, gold_answers
from verl_longrl.rewards.matching.list_items import casefold_normalized, comparable_items, published_items
from verl_longrl.rewards.matching.response_format import (
    THINK_CLOSE,
    parse_lines,
    parse_sentence,
    parse_text,
    published_text,
)
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.registry import scorer
from verl_longrl.rewards.score import Score
from verl_longrl.rewards.tasks.golongrl_gold import gold_first, gold_label
from verl_longrl.rewards.tasks.loongrl_choice import chosen_letter

_LETTERS = re.compile(r"[A-Z]{1,10}")
_BETWEEN_LETTERS = re.compile(r"[\s,;/|&+、，；.()（）*]+|\band\b|和|与")


def same_text(candidate: str, golds: list[str]) -> bool:
    """Whether the candidate is one of the gold texts, of any length, but for case, punctuation and the like."""
    return any(casefold_normalized(candidate) == casefold_normalized(gold) for gold in golds) or equals_gold(
        candidate, golds
    )


@scorer("golongrl_retrieval", "EM", gold=lambda truth, _: gold_answers(gold_label(truth)))
def golongrl_retrieval(
    response: str, ground_truth: Any, extra_info: Mapping[str, Any], options: RewardOptions
) -> Score:
    """Score a bare answer; `ground_truth` is it, or a list of accepted ones, or a released row's golden_label."""
    golds = gold_answers(gold_label(ground_truth))
    if options.paper_exact:
        text, error = published_text(response)
        answer = float(text.rpartition(THINK_CLOSE)[2].strip() in [gold.strip() for gold in golds])
        return _score(answer, error)
    whole = parse_text(response, require_think=options.require_think)
    stated = parse_sentence(response, require_think=options.require_think)
    return _score(float(any(same_text(text, golds) for text in {whole.text, stated.text} - {""})), whole.error)


@scorer("golongrl_qa", "Accuracy", gold=lambda truth, _: gold_first(truth))
def golongrl_qa(response: str, ground_truth: Any, extra_info: Mapping[str, Any], options: RewardOptions) -> Score:
    """Score the first line; `ground_truth` is the answer, or a list of accepted ones, or a released row's doc_ids, of
    which the first counts."""
    golds = gold_first(ground_truth)
    parsed = parse_lines(response, require_think=options.require_think, paper_exact=options.paper_exact)
    if parsed.error:
        return _score(0.0, parsed.error)
    return _score(float(any(_answers(parsed.lines[0], gold, options.paper_exact) for gold in golds)))


def _answers(line: str, gold: str, paper_exact: bool) -> bool:
    if paper_exact:
        wanted, listed = published_items([gold], [line])
        return wanted == listed
    if _LETTERS.fullmatch(gold.strip()):
        letters = chosen_letter(line) if len(gold.strip()) == 1 else _BETWEEN_LETTERS.sub("", line).upper()
        return letters == gold.strip()
    wanted, listed = comparable_items([gold], [line])
    return wanted == listed


def _score(answer: float, error: str = "") -> Score:
    if error:
        return Score(0.0, {}, "format_error", error)
    return Score(answer, {"answer": answer, "format": 1.0})
