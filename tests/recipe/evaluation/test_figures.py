"""Means, intervals, curves and heat maps of scored answers."""

import math

import pytest

from recipe.longrl.evaluation.figures import (
    ScoredAnswer,
    make_comparison,
    make_curve,
    make_figure,
    make_heat_map,
    make_repeats,
)
from recipe.longrl.evaluation.statistics import clustered_standard_error, wilson


def answer(score, row="r", cluster=None, **values):
    defaults = {"sample": 0, "parsed": "", "cell": "", "length": None, "position": None}
    return ScoredAnswer(**{**defaults, "row": row, "score": score, "cluster": cluster or row, **values})


def test_independent_shares_have_wilsons_interval():
    figure = make_figure([answer(float(i < 7), str(i)) for i in range(10)])
    assert (figure["mean"], figure["interval"], figure["clusters"]) == (0.7, "wilson", 10)
    assert (figure["low"], figure["high"]) == tuple(wilson(7, 10))


def test_dependent_answers_have_the_clustered_error():
    scores, clusters = [0.0, 0.0, 1.0, 1.0, 1.0, 0.0], ["a", "a", "b", "b", "c", "c"]
    figure = make_figure([answer(s, str(i), c) for i, (s, c) in enumerate(zip(scores, clusters, strict=True))])
    assert figure["interval"] == "clustered"
    assert figure["standard_error"] == clustered_standard_error(scores, clusters)


def test_all_right_is_not_certain():
    figure = make_figure([answer(1.0, str(i), str(i // 5)) for i in range(20)])
    assert (figure["mean"], figure["low"]) == (1.0, wilson(4, 4).low)
    assert make_figure([answer(0.0)])["high"] > 0.5


def test_one_cluster_tells_nothing():
    figure = make_figure([answer(s, str(s), "same") for s in (0.2, 0.6)])
    assert (figure["low"], figure["high"], figure["interval"]) == (0.0, 1.0, "unknown")
    assert math.isnan(figure["standard_error"])


def test_the_mean_of_cells_weighs_cells_equally():
    answers = [answer(1.0, str(i), cell="small") for i in range(2)]
    answers += [answer(0.0, f"l{i}", cell="large") for i in range(8)]
    assert make_figure(answers)["mean"] == 0.2
    assert make_figure(answers, by_cells=True)["mean"] == 0.5


def test_repeats():
    scores = {"a": [(1.0, "x"), (1.0, "x"), (0.0, "y")], "b": [(0.0, "p"), (0.0, "q"), (1.0, "r")]}
    answers = [
        answer(score, row, sample=sample, parsed=parsed)
        for row, samples in scores.items()
        for sample, (score, parsed) in enumerate(samples)
    ]
    repeats = make_repeats(answers)
    assert repeats["mean_at_k"] == pytest.approx(0.5)
    assert (repeats["k"], repeats["pass_at_k"], repeats["majority"]) == (3, 1.0, 0.5)
    assert repeats["by_sample"] == [0.5, 0.5, 0.5]
    assert make_repeats(answers[:1]) == {}


def test_curves_have_an_effective_length():
    scores = {1024: [1, 1, 1, 1], 2048: [1, 1, 1, 0], 4096: [0, 0, 1, 0]}
    answers = [answer(float(s), f"{at}/{i}", length=at) for at, line in scores.items() for i, s in enumerate(line)]
    curve = make_curve(answers, threshold=0.7)
    assert curve["effective_length"] == 2048
    assert curve["relative_to_shortest"] == {1024: 1.0, 2048: 0.75, 4096: 0.25}
    assert make_curve([answer(1.0)]) is None


def test_heat_maps_have_blank_classes():
    places = [(0.0, 1.0), (0.05, 0.0), (0.99, 1.0), (1.0, 1.0)]
    heat = make_heat_map([answer(s, str(p), length=64, position=p) for p, s in places])
    assert (heat["mean"][0], heat["mean"][9], heat["mean"][5]) == ([0.5], [1.0], [None])
    assert [line[0] for line in heat["n"]] == [2, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    assert make_heat_map([answer(1.0, length=64)]) is None


def test_comparisons_are_b_minus_a():
    result = make_comparison([0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 0.0, 0.0], ["a", "b", "c", "d"])
    assert (result["difference"], result["wins"], result["ties"], result["losses"]) == (0.25, 2, 1, 1)
    assert result["mcnemar_p"] == 1.0
    assert make_comparison([0.5], [0.7], ["a"])["mcnemar_p"] is None
