"""GoLongRL's EM: the bare answer equals the gold answer (arXiv 2605.19577, task EM).

Answer form: the bare text after the reasoning, or one sentence or last line that gives it.

Not seen: another wording of the gold answer; it has to be copied.

The task is `golongrl_retrieval`. There are two places to look for the answer: the whole text after the reasoning, or
the one answer that it gives in plain words ("The answer is 42", or else the last line). One of them must equal a gold
answer. Either way there is one guess, so naming several answers never pays: "42, 43" is neither.

Texts are equal when their tokens are (`tokens.py`): case, width, quotes, emphasis and punctuation are forgiven,
another word is not. As published, the characters after the reasoning must be equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from verl_longrl.rewards.matching.answer_match import equals_gold, gold_answers
from verl_longrl.rewards.matching.list_items import casefold_normalized
from verl_longrl.rewards.matching.response_format import THINK_CLOSE, parse_sentence, parse_text, published_text
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.registry import scorer
from verl_longrl.rewards.score import Score
from verl_longrl.rewards.tasks.golongrl_gold import gold_label


def is_same_text(candidate: str, golds: list[str]) -> bool:
    """Whether the candidate equals a gold text apart from case, punctuation and the like, whatever its length."""
    candidate_text = casefold_normalized(candidate)
    return any(candidate_text == casefold_normalized(gold) for gold in golds) or equals_gold(candidate, golds)


@scorer("golongrl_retrieval", "EM", gold=lambda truth, _: gold_answers(gold_label(truth)))
def golongrl_retrieval(
    response: str, ground_truth: Any, extra_info: Mapping[str, Any], options: RewardOptions
) -> Score:
    """Score a bare answer; `ground_truth` is the answer, a list of accepted ones, or a released row's golden_label."""
    golds = gold_answers(gold_label(ground_truth))
    if options.paper_exact:
        text, error = published_text(response)
        answer = text.rpartition(THINK_CLOSE)[2].strip()
        return Score.of_answer(float(answer in [gold.strip() for gold in golds]), error)
    whole = parse_text(response, require_think=options.require_think)
    stated = parse_sentence(response, require_think=options.require_think)
    candidates = {whole.answer, stated.answer} - {""}
    return Score.of_answer(float(any(is_same_text(text, golds) for text in candidates)), whole.error)
