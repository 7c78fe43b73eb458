"""Rows by weight sum to the total exactly, and no source is further from its exact share than one row."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_gen.config import ConfigError
from data_gen.mix.config import SourceOptions
from data_gen.mix.quotas import largest_remainder, rows_per_source

WEIGHTS = st.lists(st.floats(1e-6, 1e6) | st.integers(1, 9), min_size=1, max_size=12)


@given(st.integers(0, 10**7), WEIGHTS)
def test_shares_sum_to_the_total_and_keep_the_proportions(total, weights):
    shares = largest_remainder(total, weights)
    assert sum(shares) == total
    whole = sum(map(Fraction, weights))
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - total * Fraction(weight) / whole) < 1
    for i, weight in enumerate(weights):
        assert all(shares[i] >= shares[j] - (i > j) for j, other in enumerate(weights) if weight >= other)


@given(st.integers(0, 10**6), WEIGHTS, st.sampled_from([0.5, 2, 4, 1024]))
def test_only_the_proportions_matter(total, weights, factor):
    assert largest_remainder(total, weights) == largest_remainder(total, [weight * factor for weight in weights])


def test_equal_remainders_go_to_the_first():
    assert largest_remainder(8, [1, 1, 1]) == [3, 3, 2]
    assert largest_remainder(21524, [3, 1]) == [16143, 5381]


def source(**values):
    return SourceOptions(("a.parquet",), **values)


@given(st.integers(1, 500), st.integers(0, 500), st.integers(1, 10**5), WEIGHTS)
def test_weights_share_what_counts_and_whole_sources_leave(count, have, left, weights):
    sources = [source(count=count), *(source(weight=weight) for weight in weights), source()]
    usable = [count] + [10**6] * len(weights) + [have]
    rows = rows_per_source(sources, usable, count + have + left)
    assert sum(rows) == count + have + left
    assert (rows[0], rows[-1]) == (count, have)


def test_without_a_total_sources_give_their_counts_or_all():
    assert rows_per_source([source(count=3), source()], [10, 20], None) == [3, 20]


def test_a_total_that_leaves_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"total = 20: the sources without a weight already have 21 rows"):
        rows_per_source([source(count=3), source(), source(weight=1)], [10, 18, 5], 20)
