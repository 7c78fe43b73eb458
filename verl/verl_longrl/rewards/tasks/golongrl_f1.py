"""Finding all of something, where the order does not matter (GoLongRL, arXiv 2605.19577, tasks F1 and SubEM).

`f1`, for exhaustive retrieval and verification: F1 of the items listed against those asked for, as sets.

`share`, for fragment-level matching and induction (SubEM): the share of the items asked for that is listed. As
published, whoever lists every candidate has them all; here each line beyond as many as were asked for dilutes the rest:

    share = found / max(asked for, listed)

which is the published metric unless more is listed than was asked for. k candidates for one item pay 1/k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from verl_longrl.rewards.matching.list_items import score_items
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.registry import scorer
from verl_longrl.rewards.score import Score
from verl_longrl.rewards.tasks.golongrl_gold import gold_items


def f1(wanted: Sequence[str], listed: Sequence[str]) -> float:
    """2PR / (P + R) of the distinct items, in [0, 1]."""
    mine, theirs = set(listed), set(wanted)
    return 2 * len(mine & theirs) / (len(mine) + len(theirs))


def share(wanted: Sequence[str], listed: Sequence[str]) -> float:
    """The share of `wanted` that is listed, over the larger of the two lists; items are distinct."""
    return len(set(wanted).intersection(listed)) / max(len(wanted), len(listed))


def published_share(wanted: Sequence[str], listed: Sequence[str]) -> float:
    """SubEM as published: extra lines are free, and an item asked for twice counts twice."""
    return sum(item in listed for item in wanted) / len(wanted)


@scorer("golongrl_exhaustive", "F1_Score", gold=lambda truth, _: gold_items(truth))
def golongrl_exhaustive(
    response: str, ground_truth: Any, extra_info: Mapping[str, Any], options: RewardOptions
) -> Score:
    """Score a list by F1; `ground_truth` is the list, or a released row's doc_ids."""
    return score_items(response, ground_truth, options, f1, published=f1)


@scorer("golongrl_matching", "SubEM", gold=lambda truth, _: gold_items(truth))
def golongrl_matching(response: str, ground_truth: Any, extra_info: Mapping[str, Any], options: RewardOptions) -> Score:
    """Score a list by the share that was found; `ground_truth` is the list, or a released row's doc_ids."""
    return score_items(response, ground_truth, options, share, published=published_share)
