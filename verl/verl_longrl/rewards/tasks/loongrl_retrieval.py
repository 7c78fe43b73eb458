"""Retrieval (LoongRL's Book RULER rows): every value asked for, and nothing else, in the last box.

    recall     share of the values that are listed
    precision  share of the box's tokens that belong to listed values; "and" and other function words do not count
    reward     recall * precision, or with `retrieval=all` 1 when both are 1, else 0

While nothing else is listed the reward is the fraction found. ValueMatch k candidates for one value pays 1/k, which is
what picking one of them at random pays on average; a further guess beside n right values pays only when it is right
with probability above n / (2n + 1); the whole book in the box pays nothing. Values are compared as runs of whole
tokens, as sets: listing one twice changes nothing. The released default pays in full for any one of the values
(`ruler_multi`, `pure_exact_match`), here and under `paper_exact` it does not.

Whatever is in the box and is no value counts against precision, the numbers of a numbered list too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from verl_longrl.rewards.matching.answer_match import gold_answers
from verl_longrl.rewards.matching.response_format import parse_boxed, plain_text
from verl_longrl.rewards.matching.tokens import FUNCTION_WORDS, MAX_CHARS, answer_tokens
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.registry import scorer
from verl_longrl.rewards.score import Score


class ValueMatch(NamedTuple):
    """How a list of values compares with the values asked for, both in [0, 1]."""

    recall: float
    precision: float


def match_values(text: str, values: Collection[str]) -> ValueMatch:
    """Recall and precision of the values in `text`; (0, 0) when it has none, or is too long to be read whole.

    Where values overlap, the longest that starts first is listed. Raises ValueError without values to look for.
    """
    wanted = {tuple(answer_tokens(value)) for value in values} - {()}
    if not wanted:
        raise ValueError(f"values = {list(values)!r} has nothing to look for; expected at least one value")
    words = answer_tokens(text) if len(text) <= MAX_CHARS else []
    lengths = sorted({len(value) for value in wanted}, reverse=True)
    found: set[tuple[str, ...]] = set()
    inside = outside = at = 0
    while at < len(words):
        runs = (tuple(words[at : at + length]) for length in lengths)
        value = next((run for run in runs if run in wanted), None)
        if value:
            found.add(value)
            inside += len(value)
        else:
            outside += words[at] not in FUNCTION_WORDS
        at += len(value or words[at : at + 1])
    return ValueMatch(len(found) / len(wanted), inside / (inside + outside)) if found else ValueMatch(0.0, 0.0)


@scorer("loongrl_retrieval", patterns=("custom_rulerniah_*",), gold=lambda truth, _: gold_answers(truth))
def loongrl_retrieval(response: str, ground_truth: Any, extra_info: Mapping[str, Any], options: RewardOptions) -> Score:
    """Score a boxed list; `ground_truth` is the list of values, or the only one."""
    values = gold_answers(ground_truth)
    parsed = parse_boxed(response, require_think=options.require_think)
    if parsed.error:
        return Score.format_error(parsed.error)
    recall, precision = match_values(plain_text(parsed.answer), values)
    complete = float(recall == precision == 1)
    parts = {"answer": complete, "recall": recall, "precision": precision, "format": 1.0}
    return Score(complete if options.retrieval == "all" else recall * precision, parts)
