"""GoLongRL's F1: find everything that was asked for, in any order (arXiv 2605.19577, task F1).

Answer form: one item a line after the last `[Answer]`.

Not seen: another wording of an item, and the document that it is from.

F1 of the items listed against the items asked for, compared as sets. The task is `golongrl_exhaustive`: exhaustive
retrieval and verification. Published and repaired metric are the same; they differ in when two items are equal
(`list_items.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from verl_longrl.rewards.matching.list_items import score_items
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.registry import scorer
from verl_longrl.rewards.score import Score
from verl_longrl.rewards.tasks.golongrl_gold import gold_items


def f1_of_items(expected: Sequence[str], listed: Sequence[str]) -> float:
    """2PR / (P + R) of the distinct items, in [0, 1]."""
    expected_set, listed_set = set(expected), set(listed)
    return 2 * len(listed_set & expected_set) / (len(listed_set) + len(expected_set))


@scorer("golongrl_exhaustive", "F1_Score", gold=lambda truth, _: gold_items(truth))
def golongrl_exhaustive(
    response: str, ground_truth: Any, extra_info: Mapping[str, Any], options: RewardOptions
) -> Score:
    """Score a list by F1; `ground_truth` is the list, or a released row's doc_ids."""
    return score_items(response, ground_truth, options, f1_of_items, published=f1_of_items)
