"""GoLongRL's pairwise accuracy: the share of pairs in the right order (arXiv 2605.19577, task Pairwise).

Answer form: one item a line after the last `[Answer]`, in order.

Not seen: another wording of an item, and how far two items are from their places.

A pair of items asked for is right when both are listed and the earlier one comes first. As published, right pairs are
divided by the pairs of *listed* items, so two sure lines earn 1.0 where five were asked for. Here they are divided by
the pairs of the items asked for, or of the items listed if there are more:

    value = right pairs / C(max(asked for, listed), 2)

This equals the published metric for complete lists. One sure pair of five items earns 1/10, and a reversed list 0. A
list of all candidates is divided by its own length.
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


def right_pairs(expected: Sequence[str], listed: Sequence[str]) -> int:
    """The number of pairs of `expected` that are listed in this order; the last place of an item counts."""
    place = {item: i for i, item in enumerate(listed)}
    present = [place[item] for item in expected if item in place]
    return sum(earlier < later for earlier, later in combinations(present, 2))


def pairwise(expected: Sequence[str], listed: Sequence[str]) -> float:
    """Right pairs over the pairs of the longer list, in [0, 1]; items are distinct, at least two are expected.

    >>> pairwise(["a", "b", "c"], ["a", "c", "b"])
    0.6666666666666666
    """
    return right_pairs(expected, listed) / comb(max(len(expected), len(listed)), 2)


def published_pairwise(expected: Sequence[str], listed: Sequence[str]) -> float:
    """Right pairs over the pairs of the listed items; 0 if either list has one item, or the result exceeds 1."""
    pairs = comb(len(listed), 2)
    value = right_pairs(expected, listed) / pairs if pairs and len(expected) > 1 else 0.0
    # The released code fails on a value above 1, and a failure is 0 there.
    return value if value <= 1 else 0.0


def gold_order(ground_truth: Any) -> list[str]:
    """The items in their order. Raises GoldError for fewer than two different items: there is nothing to order."""
    golds = gold_items(ground_truth)
    if len(comparable_items(golds, []).expected) < 2:
        raise GoldError(golds, "cannot be ordered", "at least two different items")
    return golds


@scorer("golongrl_ordering", "Pairwise_Accuracy", gold=lambda truth, _: gold_order(truth))
def golongrl_ordering(response: str, ground_truth: Any, extra_info: Mapping[str, Any], options: RewardOptions) -> Score:
    """Score an ordered list; `ground_truth` is the list in its order, or a released row's doc_ids.

    Raises GoldError when fewer than two different items are asked for.
    """
    return score_items(response, gold_order(ground_truth), options, pairwise, published=published_pairwise)
