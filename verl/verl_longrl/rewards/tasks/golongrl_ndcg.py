"""Graded ranking: the most relevant items, best first (GoLongRL, arXiv 2605.19577, task NDCG).

Of k items asked for the first has relevance k, the last 1, anything else 0. NDCG@k is trec_eval's: linear gain, and the
item at rank r counts 1 / log2(r + 1). Up to rank k a wrong item costs its place; what follows rank k is free, so that a
list of all candidates, the likely ones first, never costs anything. Here it dilutes:

    value = NDCG@k * k / max(k, listed)

Of five items asked for, the first one alone is worth 0.49, and all five in reversed order 0.72: NDCG rewards finding
them beside ranking them, and is left as it is. An item given twice stands where it is first; as published, where it is
last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from verl_longrl.rewards.matching.list_items import score_items
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.registry import scorer
from verl_longrl.rewards.score import Score
from verl_longrl.rewards.tasks.golongrl_gold import gold_items


def ndcg(relevance: Mapping[str, float], ranked: Sequence[str], k: int) -> float:
    """NDCG@k with linear gain, in [0, 1]; items of `ranked` are distinct, at least one relevance is above 0."""
    ideal = sorted(relevance.values(), reverse=True)
    return _dcg([relevance.get(item, 0.0) for item in ranked[:k]]) / _dcg(ideal[:k])


def _dcg(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


def guarded_ndcg(wanted: Sequence[str], listed: Sequence[str]) -> float:
    """NDCG@k of distinct items, diluted by what is listed beyond as many as were asked for."""
    k = len(wanted)
    return ndcg({item: k - i for i, item in enumerate(wanted)}, listed, k) * k / max(k, len(listed))


def published_ndcg(wanted: Sequence[str], listed: Sequence[str]) -> float:
    """NDCG@k as published: of an item given or asked for twice the last place counts."""
    k, last = len(wanted), {item: place for place, item in enumerate(listed)}
    return ndcg({item: k - i for i, item in enumerate(wanted)}, sorted(last, key=lambda item: last[item]), k)


@scorer("golongrl_ranking", "NDCG", gold=lambda truth, _: gold_items(truth))
def golongrl_ranking(response: str, ground_truth: Any, extra_info: Mapping[str, Any], options: RewardOptions) -> Score:
    """Score a ranked list; `ground_truth` is the list, best first, or a released row's doc_ids."""
    return score_items(response, ground_truth, options, guarded_ndcg, published=published_ndcg)
