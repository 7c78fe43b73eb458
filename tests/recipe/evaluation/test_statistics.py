"""Statistics of scores: closed forms, scipy and scikit-learn as oracles, and simulation."""

import doctest
import math
from itertools import combinations

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import cohen_kappa_score

from recipe.longrl.evaluation import statistics as stats


def test_doctests():
    result = doctest.testmod(stats)
    assert result.attempted
    assert not result.failed


def test_standard_error_is_scipys():
    scores = np.random.default_rng(0).random(50)
    assert stats.standard_error(scores) == pytest.approx(scipy.stats.sem(scores))


def test_clusters_of_one_row_are_independent_rows():
    scores = list(np.random.default_rng(1).random(40))
    assert stats.clustered_standard_error(scores, range(40)) == pytest.approx(stats.standard_error(scores))


def test_clustered_error_is_millers_double_sum():
    rng = np.random.default_rng(2)
    scores, clusters = rng.random(30), rng.integers(0, 7, 30)
    residuals = scores - scores.mean()
    cross = sum(
        residuals[i] * residuals[j] for i in range(30) for j in range(30) if i != j and clusters[i] == clusters[j]
    )
    expected = math.sqrt(scores.var(ddof=1) / 30 + cross / 30**2)
    assert stats.clustered_standard_error(scores, list(clusters)) == pytest.approx(expected)


def test_copies_of_a_row_add_no_information():
    scores = list(np.random.default_rng(3).integers(0, 2, 200))
    tripled = stats.clustered_standard_error(scores * 3, list(range(200)) * 3)
    assert tripled == pytest.approx(stats.standard_error(scores), rel=0.01)
    assert stats.standard_error(scores * 3) < 0.6 * tripled


def simulate_clusters(rng, number=60, size=5):
    """Scores with an effect that the rows of a cluster share, and their clusters."""
    effects = np.repeat(rng.normal(0, 0.3, number), size)
    return 0.5 + effects + rng.normal(0, 0.2, number * size), np.repeat(np.arange(number), size).tolist()


def test_clustered_interval_covers_the_mean_where_the_plain_one_does_not():
    rng = np.random.default_rng(4)
    covered = dict.fromkeys(("clustered", "plain"), 0)
    for _ in range(400):
        scores, clusters = simulate_clusters(rng)
        for kind, error in (
            ("clustered", stats.clustered_standard_error(scores, clusters)),
            ("plain", stats.standard_error(scores)),
        ):
            low, high = stats.normal_interval(scores.mean(), error)
            covered[kind] += low < 0.5 < high
    assert 0.91 < covered["clustered"] / 400 < 0.98
    assert covered["plain"] / 400 < 0.75


def test_stratified_error_covers_a_mean_of_unequal_cells():
    rng, covered = np.random.default_rng(5), 0
    for _ in range(400):
        questions = rng.normal(0, 0.3, 100)
        cells = {"short": questions + 0.9, "long": questions[:40] + 0.1}
        values = {cell: mean + rng.normal(0, 0.1, len(mean)) for cell, mean in cells.items()}
        scores = np.concatenate(list(values.values()))
        labels = ["short"] * 100 + ["long"] * 40
        error = stats.stratified_standard_error(scores, labels, [*range(100), *range(40)])
        estimate = np.mean([cell.mean() for cell in values.values()])
        low, high = stats.normal_interval(float(estimate), error)
        covered += low < 0.5 < high
    assert 0.91 < covered / 400 < 0.98


def test_one_cell_is_the_clustered_error_up_to_its_small_sample_factor():
    scores, clusters = simulate_clusters(np.random.default_rng(6))
    stratified = stats.stratified_standard_error(scores, ["one"] * len(scores), clusters)
    assert stratified == pytest.approx(stats.clustered_standard_error(scores, clusters), rel=0.02)


def test_an_unknown_error_is_not_zero():
    assert math.isnan(stats.standard_error([1.0]))
    assert math.isnan(stats.clustered_standard_error([1.0, 0.0], ["a", "a"]))
    assert math.isnan(stats.stratified_standard_error([1.0, 0.0], ["x", "y"], ["a", "a"]))
    assert math.isnan(stats.stratified_standard_error([1.0, 0.0], ["x", "y"], ["a", "b"]))


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (7, 20), (463, 503), (1, 1)])
def test_wilson_is_scipys(successes, n):
    expected = scipy.stats.binomtest(successes, n).proportion_ci(method="wilson")
    assert stats.wilson(successes, n) == pytest.approx((expected.low, expected.high))


def test_wilson_without_rows_knows_nothing():
    assert stats.wilson(0, 0) == (0, 1)
    with pytest.raises(ValueError, match="successes = 3"):
        stats.wilson(3, 2)


@pytest.mark.parametrize(("only_a", "only_b", "both"), [(5, 0, 3), (10, 4, 0), (0, 0, 7), (250, 200, 100), (3, 3, 0)])
def test_mcnemar_is_a_binomial_test_of_the_rows_that_differ(only_a, only_b, both):
    a = [1] * only_a + [0] * only_b + [1] * both
    b = [0] * only_a + [1] * only_b + [1] * both
    n = only_a + only_b
    expected = scipy.stats.binomtest(only_a, n).pvalue if n else 1.0
    assert stats.mcnemar(a, b) == pytest.approx(expected)
    assert stats.mcnemar(b, a) == pytest.approx(expected)


def test_mcnemar_has_thousands_of_rows_and_refuses_graded_scores():
    assert stats.mcnemar([1] * 5000, [0] * 5000) == 0
    with pytest.raises(ValueError, match=r"b has the score 0\.5"):
        stats.mcnemar([1], [0.5])


def test_paired_difference_is_the_error_of_differences():
    rng = np.random.default_rng(7)
    difficulty = rng.random(300)
    a = (rng.random(300) < 0.2 + 0.7 * difficulty).astype(float)
    b = (rng.random(300) < 0.1 + 0.7 * difficulty).astype(float)
    result = stats.paired_difference(a, b, range(300))
    assert result.difference == pytest.approx(a.mean() - b.mean())
    assert result.standard_error == pytest.approx(scipy.stats.sem(a - b))
    assert result.interval.low < result.difference < result.interval.high
    assert result.wins + result.ties + result.losses == 300
    assert (result.wins - result.losses) / 300 == pytest.approx(result.difference)


def test_paired_difference_of_equal_models_is_zero():
    result = stats.paired_difference([1, 0, 1], [1, 0, 1], "abc")
    assert result == (0, 0, (0, 0), 0, 3, 0)


def test_columns_of_different_length_are_refused():
    with pytest.raises(ValueError, match="a has 2 rows, b has 1 rows, clusters has 2 rows"):
        stats.paired_difference([1, 0], [1], "ab")


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_pass_at_k_is_the_mean_over_all_choices_of_k_samples(k):
    scores = [[1, 0, 0, 1, 0], [0, 0, 0, 0, 0], [0.5, 1, 1, 1, 1]]
    by_choice = [np.mean([max(choice) == 1 for choice in combinations(row, k)]) for row in scores]
    assert stats.pass_at_k(scores, k) == pytest.approx(np.mean(by_choice))


def test_pass_at_k_needs_k_samples():
    with pytest.raises(ValueError, match=r"k = 3: question 1 has 2 samples\. Fix:"):
        stats.pass_at_k([[1, 0, 0], [1, 0]], 3)


def test_mean_at_k_weighs_questions_equally():
    assert stats.mean_at_k([[1, 1, 1, 1], [0]]) == 0.5
    with pytest.raises(ValueError, match="question 1 has no samples"):
        stats.mean_at_k([[1], []])


def test_majority():
    assert stats.majority(["B", "A", "A", "B", "C"]) == "B"
    assert stats.majority(["", ""]) == ""
    assert stats.majority([]) == ""


def test_effective_length_is_the_longest_above_the_threshold():
    curve = {4096: 95.0, 8192: 80.0, 16384: 85.7, 32768: 85.6}
    assert stats.effective_length(curve, 85.6) == 16384
    assert stats.effective_length(curve, 99) is None


def test_kappa_is_scikit_learns():
    rng = np.random.default_rng(8)
    a = rng.integers(0, 3, 100)
    b = np.where(rng.random(100) < 0.7, a, rng.integers(0, 3, 100))
    assert stats.kappa(a.tolist(), b.tolist()) == pytest.approx(cohen_kappa_score(a, b))
    assert stats.kappa("YNYN", "YNYN") == 1
    assert math.isnan(stats.kappa("YY", "YY"))
