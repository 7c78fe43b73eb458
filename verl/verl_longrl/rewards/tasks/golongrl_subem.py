"""GoLongRL's SubEM: the share of the items asked for that are listed (arXiv 2605.19577, task SubEM).

Answer form: one item a line after the last `[Answer]`.

Not seen: another wording of an item, and the order of the lines.

The task is `golongrl_matching`: fragment-level matching and induction. The published metric ignores extra lines, so
listing every candidate earns 1. Here each line beyond the number asked for dilutes the rest:

    value = found / max(asked for, listed)

This equals the published metric unless more is listed than was asked for. k candidates for one item earn 1/k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from verl_longrl.rewards.matching.list_items import score_items
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.registry import scorer
from verl_longrl.rewards.score import Score
from verl_longrl.rewards.tasks.golongrl_gold import gold_items


def subem(expected: Sequence[str], listed: Sequence[str]) -> float:
    """The number of expected items that are listed, over the length of the longer list; items are distinct."""
    return len(set(expected).intersection(listed)) / max(len(expected), len(listed))


def published_subem(expected: Sequence[str], listed: Sequence[str]) -> float:
    """SubEM as published: extra lines cost nothing, and an item expected twice counts twice."""
    return sum(item in listed for item in expected) / len(expected)


@scorer("golongrl_matching", "SubEM", gold=lambda truth, _: gold_items(truth))
def golongrl_matching(response: str, ground_truth: Any, extra_info: Mapping[str, Any], options: RewardOptions) -> Score:
    """Score a list by SubEM; `ground_truth` is the list, or a released row's doc_ids."""
    return score_items(response, ground_truth, options, subem, published=published_subem)
