"""GoLongRL's NDCG: list the most relevant items, best first (arXiv 2605.19577, task NDCG).

Answer form: one item a line after the last `[Answer]`, best first.

Not seen: another wording of an item, and by how much one item is more relevant than the next.

Of k items asked for, the first has relevance k, the last 1, and anything else 0. NDCG@k is trec_eval's: linear gain,
and the item at rank r counts 1 / log2(r + 1). Up to rank k a wrong item costs its place. Items after rank k cost
nothing in the published metric, so a list of all candidates, the likely ones first, never loses. Here they dilute the
value:

    value = NDCG@k * k / max(k, listed)

Of five items asked for, the first one alone earns 0.49, and all five in reversed order earn 0.72: NDCG rewards finding
items as well as ranking them. For an item listed twice the first place counts; as published, the last.
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


def guarded_ndcg(expected: Sequence[str], listed: Sequence[str]) -> float:
    """NDCG@k of distinct items, diluted by the items listed beyond the number asked for."""
    k = len(expected)
    return ndcg({item: k - i for i, item in enumerate(expected)}, listed, k) * k / max(k, len(listed))


def published_ndcg(expected: Sequence[str], listed: Sequence[str]) -> float:
    """NDCG@k as published: for an item listed or expected twice, the last place counts."""
    k, last = len(expected), {item: place for place, item in enumerate(listed)}
    return ndcg({item: k - i for i, item in enumerate(expected)}, sorted(last, key=lambda item: last[item]), k)


@scorer("golongrl_ranking", "NDCG", gold=lambda truth, _: gold_items(truth))
def golongrl_ranking(response: str, ground_truth: Any, extra_info: Mapping[str, Any], options: RewardOptions) -> Score:
    """Score a ranked list; `ground_truth` is the list, best first, or a released row's doc_ids."""
    return score_items(response, ground_truth, options, guarded_ndcg, published=published_ndcg)
