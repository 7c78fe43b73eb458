"""Figures of scored rows: means with intervals, length curves, heat maps, and paired comparisons.

Every figure's denominator is all planned answers; one that failed has the score 0 and is counted beside the figure.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recipe.longrl.evaluation.statistics import (
    Interval,
    clustered_standard_error,
    effective_length,
    majority,
    mcnemar,
    mean_at_k,
    normal_interval,
    paired_difference,
    pass_at_k,
    stratified_standard_error,
    wilson,
)

THRESHOLD = 0.856
"""RULER's threshold of the effective length: Llama-2-7B at 4K tokens (arXiv 2404.06654)."""
DEPTHS = 10
"""Depth classes of a heat map."""


@dataclass(frozen=True)
class ScoredAnswer:
    """One planned answer under one rule."""

    row: str
    sample: int
    score: float
    parsed: str
    cell: str
    cluster: str
    length: int | None
    position: float | None


def make_figure(answers: Sequence[ScoredAnswer], by_cells: bool = False) -> dict[str, Any]:
    """Mean and 95 % interval. by_cells: the mean of the cells' means instead of that over all answers.

    The interval is Wilson's for independent answers that are right or wrong, and for answers that are all right or all
    wrong, with the number of clusters; for all others it is the normal one with the clustered standard error.
    """
    scores = [answer.score for answer in answers]
    clusters = [answer.cluster for answer in answers]
    cells = [answer.cell for answer in answers]
    by_cells = by_cells and len(set(cells)) > 1
    if by_cells:
        mean = _mean(figure_mean for figure_mean in _means_by(answers, cells).values())
        error = stratified_standard_error(scores, cells, clusters)
    else:
        mean, error = _mean(scores), clustered_standard_error(scores, clusters)
    interval, method = _interval(scores, mean, error, len(set(clusters)), by_cells)
    return {
        "n": len(scores),
        "clusters": len(set(clusters)),
        "mean": mean,
        "standard_error": error,
        "low": max(0.0, interval.low),
        "high": min(1.0, interval.high),
        "interval": method,
    }


def make_repeats(answers: Sequence[ScoredAnswer]) -> dict[str, Any]:
    """mean@k, pass@k, the score of the majority's answer, and the means by sample; {} for one answer a row."""
    by_row: dict[str, list[ScoredAnswer]] = {}
    by_sample: dict[int, list[float]] = {}
    for answer in answers:
        by_row.setdefault(answer.row, []).append(answer)
        by_sample.setdefault(answer.sample, []).append(answer.score)
    k = len(by_sample)
    if k < 2:
        return {}
    samples = [[answer.score for answer in of_row] for of_row in by_row.values()]
    return {
        "k": k,
        "mean_at_k": mean_at_k(samples),
        "pass_at_k": pass_at_k(samples, k),
        "majority": _mean(map(_majority_score, by_row.values())),
        "by_sample": [_mean(by_sample[sample]) for sample in sorted(by_sample)],
    }


def make_curve(answers: Sequence[ScoredAnswer], threshold: float = THRESHOLD) -> dict[str, Any] | None:
    """Figures by length, the effective length, and means relative to the shortest length; None without lengths."""
    lengths = sorted({answer.length for answer in answers if answer.length is not None})
    if not lengths:
        return None
    points = {at: make_figure([answer for answer in answers if answer.length == at]) for at in lengths}
    base = points[lengths[0]]["mean"]
    return {
        "points": points,
        "relative_to_shortest": {at: point["mean"] / base if base else None for at, point in points.items()},
        "threshold": threshold,
        "effective_length": effective_length({at: point["mean"] for at, point in points.items()}, threshold),
    }


def make_heat_map(answers: Sequence[ScoredAnswer]) -> dict[str, Any] | None:
    """Means and counts by depth of the evidence (DEPTHS equal classes) and length; None without depths.

    Returns {"lengths", "depths", "mean": [depth][length], "n": [depth][length]}; a mean without answers is None.
    """
    placed = [answer for answer in answers if answer.position is not None and answer.length is not None]
    if not placed:
        return None
    lengths = sorted({answer.length for answer in placed if answer.length is not None})
    table: list[list[list[float]]] = [[[] for _ in lengths] for _ in range(DEPTHS)]
    for answer in placed:
        assert answer.position is not None
        assert answer.length is not None
        depth = min(DEPTHS - 1, max(0, int(answer.position * DEPTHS)))
        table[depth][lengths.index(answer.length)].append(answer.score)
    return {
        "lengths": lengths,
        "depths": [at / DEPTHS for at in range(DEPTHS)],
        "mean": [[_mean(scores) if scores else None for scores in line] for line in table],
        "n": [[len(scores) for scores in line] for line in table],
    }


def make_comparison(a: Sequence[float], b: Sequence[float], clusters: Sequence[Hashable]) -> dict[str, Any]:
    """The paired difference b - a with its clustered interval, and McNemar's p for scores of 0 and 1."""
    result = paired_difference(b, a, clusters)
    right_or_wrong = {*a, *b} <= {0.0, 1.0}
    return {
        "n": len(a),
        "a": _mean(a),
        "b": _mean(b),
        "difference": result.difference,
        "standard_error": result.standard_error,
        "low": result.interval.low,
        "high": result.interval.high,
        "wins": result.wins,
        "ties": result.ties,
        "losses": result.losses,
        "mcnemar_p": mcnemar(a, b) if right_or_wrong else None,
    }


def _interval(
    scores: Sequence[float], mean: float, error: float, clusters: int, by_cells: bool
) -> tuple[Interval, str]:
    right_or_wrong = {*scores} <= {0.0, 1.0}
    if right_or_wrong and (mean in (0.0, 1.0) or math.isnan(error)):
        return wilson(mean * clusters, clusters), "wilson over clusters"
    if right_or_wrong and clusters == len(scores) and not by_cells:
        return wilson(sum(scores), len(scores)), "wilson"
    if math.isnan(error):
        return Interval(0.0, 1.0), "unknown"
    return normal_interval(mean, error), "clustered"


def _majority_score(answers: Sequence[ScoredAnswer]) -> float:
    """The score of the answer that most samples of a row agree on; 0 if none could be read."""
    chosen = majority([answer.parsed for answer in answers])
    return next((answer.score for answer in answers if chosen and answer.parsed == chosen), 0.0)


def _means_by(answers: Sequence[ScoredAnswer], keys: Sequence[str]) -> Mapping[str, float]:
    groups: dict[str, list[float]] = {}
    for answer, key in zip(answers, keys, strict=True):
        groups.setdefault(key, []).append(answer.score)
    return {key: _mean(scores) for key, scores in groups.items()}


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return math.fsum(numbers) / len(numbers)
