r"""LoongRL's retrieval (its Book RULER rows): every value asked for, and nothing else, in the last box.

Answer form: the values in the last `\boxed{}`.

Not seen: the order of the values, and where they were found.

    recall     share of the values that are listed
    precision  share of the box's tokens that belong to listed values; "and" and other function words do not count
    reward     recall * precision, or with `retrieval=all` 1 when both are 1, else 0

While nothing else is listed, the reward is the fraction found. Listing k candidates for one value earns 1/k, the
expected reward of picking one of them at random. A further guess next to n right values pays only when it is right with
probability above n / (2n + 1), and the whole book in the box earns nothing. Values are compared as runs of whole
tokens, as sets: listing one twice changes nothing. The released default (`ruler_multi`, `pure_exact_match`) pays in
full for any one of the values; here it does not, also under `paper_exact`.

Anything in the box that is not a value lowers precision, also the numbers of a numbered list.
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
    """How well a text lists the expected values, both numbers in [0, 1]."""

    recall: float
    precision: float


def match_values(text: str, values: Collection[str]) -> ValueMatch:
    """Recall and precision of the values in `text`; (0, 0) when it has none, or is too long to be read as a whole.

    Where values overlap, the longest one that starts first counts. Raises ValueError without values to look for.

    >>> match_values("12, 15 and 99", ["12", "15", "17"])
    ValueMatch(recall=0.6666666666666666, precision=0.6666666666666666)
    """
    expected = {tuple(answer_tokens(value)) for value in values} - {()}
    if not expected:
        raise ValueError(f"values = {list(values)!r}: nothing to look for; expected at least one value")
    words = answer_tokens(text) if len(text) <= MAX_CHARS else []
    lengths = sorted({len(value) for value in expected}, reverse=True)
    listed: set[tuple[str, ...]] = set()
    value_tokens = other_tokens = position = 0
    while position < len(words):
        runs = (tuple(words[position : position + length]) for length in lengths)
        value = next((run for run in runs if run in expected), None)
        if value:
            listed.add(value)
            value_tokens += len(value)
        else:
            other_tokens += words[position] not in FUNCTION_WORDS
        position += len(value or words[position : position + 1])
    if not listed:
        return ValueMatch(0.0, 0.0)
    return ValueMatch(len(listed) / len(expected), value_tokens / (value_tokens + other_tokens))


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
