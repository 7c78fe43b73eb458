"""Errors, intervals and comparisons of benchmark scores.

Most formulas are from E. Miller, "Adding Error Bars to Evals" (arXiv 2411.00640), cited as "Miller". Scores are floats
in [0, 1], one for each row, and errors are in the same unit. An error that cannot be estimated (fewer than two rows or
clusters) is nan, never 0.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


class PairedDifference(NamedTuple):
    """How much better a is than b on the same rows."""

    difference: float
    """Mean of a - b."""
    standard_error: float
    interval: Interval
    wins: int
    """Rows on which a is better; `ties` and `losses` accordingly."""
    ties: int
    losses: int


def standard_error(scores: Sequence[float]) -> float:
    """The standard error of the mean of n independent scores, sqrt(var / n) with the unbiased variance (Miller).

    scores: (n,). nan for n < 2.

    >>> standard_error([0, 0, 1, 1])
    0.28867513459481287
    """
    n = len(scores)
    return float(np.std(scores, ddof=1) / math.sqrt(n)) if n > 1 else math.nan


def clustered_standard_error(scores: Sequence[float], clusters: Sequence[Hashable]) -> float:
    """The standard error of the mean of scores that are dependent within a cluster (Miller).

    With residuals r_i = s_i - mean(s):

        SE^2 = SE_independent^2 + (1 / n^2) * sum over clusters of the sum of r_i r_j over i != j

    so rows that are clusters of their own give `standard_error`. scores, clusters: (n,). A negative estimate of SE^2,
    possible where rows of a cluster repel each other, is 0. nan for fewer than two clusters. Raises ValueError for
    different lengths.

    >>> clustered_standard_error([0, 0, 1, 1], ["a", "a", "b", "b"])
    0.38188130791298663
    """
    _check_lengths(scores=scores, clusters=clusters)
    if len(set(clusters)) < 2:
        return math.nan
    residuals = np.asarray(scores, float) - np.mean(scores)
    totals = _sums_by_cluster(residuals, clusters)
    # Within a cluster, the sum over i != j is (sum of r)^2 - sum of r^2.
    covariance = float(totals @ totals - residuals @ residuals) / len(scores) ** 2
    return math.sqrt(max(0.0, standard_error(scores) ** 2 + covariance))


def stratified_standard_error(
    scores: Sequence[float], cells: Sequence[Hashable], clusters: Sequence[Hashable]
) -> float:
    """The clustered standard error of a mean of cell means, as in "the mean over three lengths and two tasks".

    Each row weighs 1 / (number of cells * rows in its cell), and its residual is taken from the mean of its cell. A
    cluster may span cells, as the same question at three lengths does. scores, cells, clusters: (n,). nan for fewer
    than two clusters, and for a cell of one row, whose spread nobody knows. Raises ValueError for different lengths.

        SE^2 = C / (C - 1) * sum over the C clusters of (sum of w_i r_i)^2
    """
    _check_lengths(scores=scores, cells=cells, clusters=clusters)
    number = len(set(clusters))
    if number < 2:
        return math.nan
    values = np.asarray(scores, float)
    _, index, sizes = np.unique([str(cell) for cell in cells], return_inverse=True, return_counts=True)
    if sizes.min() < 2:
        return math.nan
    means = np.bincount(index, weights=values) / sizes
    weighted = (values - means[index]) / (len(sizes) * sizes[index])
    totals = _sums_by_cluster(weighted, clusters)
    return math.sqrt(number / (number - 1) * float(totals @ totals))


def normal_interval(mean: float, error: float, confidence: float = 0.95) -> Interval:
    """mean -+ z * error (Miller). nan where the error is."""
    margin = _z(confidence) * error
    return Interval(mean - margin, mean + margin)


def wilson(successes: float, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a share (JASA 22, 1927): within [0, 1], and not empty at 0 % or 100 %.

    successes: their number, out of n independent rows. (0, 1) for n = 0. Raises ValueError unless 0 <= successes <= n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes = {successes}: expected a number of at least 0 and at most n = {n}")
    if n == 0:
        return Interval(0.0, 1.0)
    share, z2 = successes / n, _z(confidence) ** 2
    center = (share + z2 / (2 * n)) / (1 + z2 / n)
    margin = math.sqrt(z2 * share * (1 - share) / n + z2**2 / (4 * n**2)) / (1 + z2 / n)
    return Interval(max(0.0, center - margin), min(1.0, center + margin))


def paired_difference(
    a: Sequence[float], b: Sequence[float], clusters: Sequence[Hashable], confidence: float = 0.95
) -> PairedDifference:
    """The difference of two models on the same rows, with the clustered error of the differences (Miller).

    Rows that are hard for both models cancel, so this error is smaller than that of two separate means. a, b, clusters:
    (n,), row by row. Raises ValueError for different lengths, or without rows.
    """
    _check_lengths(a=a, b=b, clusters=clusters)
    differences = np.asarray(a, float) - np.asarray(b, float)
    mean, error = float(differences.mean()), clustered_standard_error(differences.tolist(), clusters)
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    return PairedDifference(
        mean, error, normal_interval(mean, error, confidence), wins, len(differences) - wins - losses, losses
    )


def mcnemar(a: Sequence[float], b: Sequence[float]) -> float:
    """The two-sided p value of the exact McNemar test (Psychometrika 12, 1947): do a and b differ on 0/1 scores?

    Only rows count on which exactly one of the two is right. If both models were equally good, either would be the one
    with probability 1/2: a binomial test. a, b: (n,), row by row. Raises ValueError for scores other than 0 and 1.

    >>> mcnemar([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0])
    0.0625
    """
    _check_lengths(a=a, b=b)
    for name, scores in (("a", a), ("b", b)):
        if other := set(map(float, scores)) - {0.0, 1.0}:
            raise ValueError(f"{name} has the score {min(other)}: expected only 0 and 1. Fix: use paired_difference")
    only_a = sum(x > y for x, y in zip(a, b, strict=True))
    only_b = sum(x < y for x, y in zip(a, b, strict=True))
    n = only_a + only_b
    tail = sum(math.comb(n, k) for k in range(min(only_a, only_b) + 1))
    # Python divides large integers exactly, so thousands of rows do not overflow.
    return min(1.0, 2 * tail / 2**n)


def mean_at_k(scores: Sequence[Sequence[float]]) -> float:
    """mean@k: the mean over questions of the mean over their samples.

    scores: (questions, samples); questions may differ in their number of samples, but each needs one. For its error,
    use `standard_error` of the means of the questions. Raises ValueError for a question without samples.
    """
    return float(np.mean([float(np.mean(_samples(i, samples))) for i, samples in enumerate(scores)]))


def pass_at_k(scores: Sequence[Sequence[float]], k: int) -> float:
    """pass@k: the probability that one of k samples is right, unbiased (Chen et al., arXiv 2107.03374, equation 1).

        mean over questions of 1 - C(n - c, k) / C(n, k), with c right samples among n

    scores: (questions, samples) of 0 and 1, at least k samples each. A score below 1 is not a pass. Raises ValueError
    for fewer samples.
    """
    estimates = []
    for i, samples in enumerate(scores):
        n = len(_samples(i, samples))
        if not 1 <= k <= n:
            raise ValueError(f"k = {k}: question {i} has {n} samples. Fix: choose k from 1 to {n}, or sample more")
        wrong = sum(score < 1 for score in samples)
        estimates.append(1 - math.comb(wrong, k) / math.comb(n, k))
    return float(np.mean(estimates))


def majority(answers: Sequence[str]) -> str:
    """maj@k (self-consistency, arXiv 2203.11171): the answer given most often; of several, the one given first.

    answers: as the rule parsed them. An empty one has no vote. "" when all are empty.

    >>> majority(["12", "", "7", "", "7", ""])
    '7'
    """
    votes = Counter(answer for answer in answers if answer)
    return max(votes, key=lambda answer: votes[answer], default="")


def effective_length(curve: Mapping[int, float], threshold: float) -> int | None:
    """The longest length whose score exceeds the threshold, as RULER defines it (arXiv 2404.06654).

    curve: length in tokens -> mean score, in the unit of the threshold (RULER: 85.6 %, which is Llama-2-7B at 4K). A
    shorter length may be below it. None when no length exceeds it.
    """
    return max((length for length, score in curve.items() if score > threshold), default=None)


def kappa(a: Sequence[Hashable], b: Sequence[Hashable]) -> float:
    """Cohen's kappa (Educational and Psychological Measurement 20, 1960): agreement of two judges beyond chance.

        (observed - expected) / (1 - expected)

    a, b: (n,) verdicts, row by row. nan when both judges gave one and the same verdict to every row, because chance
    alone agrees then. Raises ValueError for different lengths, or without rows.
    """
    _check_lengths(a=a, b=b)
    n = len(a)
    observed = sum(x == y for x, y in zip(a, b, strict=True)) / n
    of_a, of_b = Counter(a), Counter(b)
    expected = sum(of_a[verdict] * of_b[verdict] for verdict in of_a) / n**2
    return (observed - expected) / (1 - expected) if expected < 1 else math.nan


def _z(confidence: float) -> float:
    """The normal quantile of a two-sided interval: 1.96 for 0.95."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence}: expected a number between 0 and 1, such as 0.95")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _sums_by_cluster(values: np.ndarray, clusters: Sequence[Hashable]) -> np.ndarray:
    """The sum of the values of each cluster: (number of clusters,)."""
    numbers: dict[Hashable, int] = {}
    index = [numbers.setdefault(cluster, len(numbers)) for cluster in clusters]
    return np.bincount(index, weights=values)


def _samples(question: int, samples: Sequence[float]) -> Sequence[float]:
    if not len(samples):
        raise ValueError(f"question {question} has no samples: expected at least one")
    return samples


def _check_lengths(**columns: Sequence[object]) -> None:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        listed = ", ".join(f"{name} has {length} rows" for name, length in lengths.items())
        raise ValueError(f"{listed}: expected the same number of rows, at least one")
