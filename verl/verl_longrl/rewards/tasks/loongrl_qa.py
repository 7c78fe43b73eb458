r"""LoongRL's QA: multi-hop questions over long documents, plain or behind a KeyChain (arXiv 2510.19363, equation 3).

Answer form: the last `\boxed{}`.

Not seen: whether the chain was followed, or the answer known or guessed.

    reward = 1 if the answer in the last box matches a gold answer, else 0

There is no reward for format or for finding the chain: a key chain makes the answer unreachable without following it.
The match is the guarded `two_way` unless the user chose another `answer.mode`; `paper_exact` selects the published
rule, which pays for tricks (`two_way_match.py` has both). A judge may decide instead. A response without a box earns 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from verl_longrl.rewards.matching.answer_match import correctness, gold_answers
from verl_longrl.rewards.matching.response_format import parse_boxed, plain_text
from verl_longrl.rewards.matching.two_way_match import matches_as_published
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.registry import scorer
from verl_longrl.rewards.score import Score


@scorer(
    "loongrl_qa",
    "loongrl_keychain",
    patterns=("custom_longcontextqa_*", "custom_longcontext_needle_qa_*"),
    gold=lambda truth, _: gold_answers(truth),
)
def loongrl_qa(response: str, ground_truth: Any, extra_info: Mapping[str, Any], options: RewardOptions) -> Score:
    """Score a boxed answer; `ground_truth` is the answer or a list of accepted ones."""
    parsed = parse_boxed(response, require_think=options.require_think, paper_exact=options.paper_exact)
    if parsed.error:
        return Score.format_error(parsed.error)
    answer = _correctness(parsed.answer, ground_truth, extra_info, options)
    return Score(answer, {"answer": answer, "format": 1.0}, candidate=plain_text(parsed.answer))


def _correctness(boxed: str, ground_truth: Any, extra_info: Mapping[str, Any], options: RewardOptions) -> float:
    if options.paper_exact and options.verdict is None:
        return float(bool(boxed) and any(matches_as_published(boxed, gold) for gold in gold_answers(ground_truth)))
    return correctness(plain_text(boxed), ground_truth, options, auto_mode="two_way", extra_info=extra_info)
