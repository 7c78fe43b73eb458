"""Putting things in order: the share of pairs in the right order (GoLongRL, arXiv 2605.19577, task Pairwise).

A pair of items asked for is right when both are listed and the earlier one stands first. As published, right pairs are
divided by the pairs of what was *listed*, so that two lines one is sure of earn 1.0 where five were asked for. Here
they are divided by the pairs of what was asked for, or of what was listed where that is more:

    value = right pairs / C(max(asked for, listed), 2)

which is the published metric for complete lists. One sure pair of five items earns 1/10, a reversed list 0, and a list
of everything pays for its length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import comb
from typing import Any

from verl_longrl.rewards.matching.list_items import comparable_items, score_items
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.registry import GoldError, scorer
from verl_longrl.rewards.score import Score
from verl_longrl.rewards.tasks.golongrl_gold import gold_items


def right_pairs(wanted: Sequence[str], listed: Sequence[str]) -> int:
    """The number of pairs of `wanted` that are listed in its order; of an item listed twice the last place counts."""
    place = {item: i for i, item in enumerate(listed)}
    present = [place[item] for item in wanted if item in place]
    return sum(earlier < later for earlier, later in combinations(present, 2))


def pairwise(wanted: Sequence[str], listed: Sequence[str]) -> float:
    """Right pairs over the pairs of the longer list, in [0, 1]; items are distinct, at least two are wanted."""
    return right_pairs(wanted, listed) / comb(max(len(wanted), len(listed)), 2)


def published_pairwise(wanted: Sequence[str], listed: Sequence[str]) -> float:
    """Right pairs over the pairs of what was listed; 0 where either list has one item, or the result exceeds 1."""
    pairs = comb(len(listed), 2)
    value = right_pairs(wanted, listed) / pairs if pairs and len(wanted) > 1 else 0.0
    return value if value <= 1 else 0.0  # the released code fails on it, and a failure is 0 there


def gold_order(ground_truth: Any) -> list[str]:
    """The items in their order. Raises GoldError when fewer than two different ones are asked for: there is nothing to
    order."""
    golds = gold_items(ground_truth)
    if len(comparable_items(golds, []).wanted) < 2:
        raise GoldError(golds, "cannot be ordered", "at least two different items")
    return golds


@scorer("golongrl_ordering", "Pairwise_Accuracy", gold=lambda truth, _: gold_order(truth))
def golongrl_ordering(response: str, ground_truth: Any, extra_info: Mapping[str, Any], options: RewardOptions) -> Score:
    """Score an ordered list; `ground_truth` is the list in its order, or a released row's doc_ids.

    Raises GoldError when fewer than two different items are asked for.
    """
    return score_items(response, gold_order(ground_truth), options, pairwise, published=published_pairwise)
