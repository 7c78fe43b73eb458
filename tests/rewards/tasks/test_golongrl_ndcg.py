"""Graded ranking: the table, trec_eval's own NDCG, and that a longer list is never worth more."""

import ir_measures
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import nDCG
from support.reward_cases import check_listing, listing, load_rows
from verl_longrl.rewards import RewardOptions, score
from verl_longrl.rewards.tasks.golongrl_ndcg import guarded_ndcg, published_ndcg

PUBLISHED = RewardOptions(paper_exact=True)
WANTED = st.integers(1, 6).map(lambda n: list("abcdef"[:n]))
LISTED = st.lists(st.sampled_from("abcdefuvwxyz"), min_size=1, max_size=12, unique=True)


@pytest.mark.parametrize(("kind", "case"), load_rows("golongrl_ndcg"))
def test_table(kind, case):
    assert (kind == "correct") == (check_listing("golongrl_ranking", case).value == 1)


@pytest.mark.parametrize(
    ("lines", "value"), [("abcde", 1.0), ("edcba", 0.7222), ("a", 0.4868), ("abcdevwxyz", 1.0)], ids=str
)
def test_the_published_reference_values(lines, value):
    assert score("golongrl_ranking", listing(lines), list("abcde"), options=PUBLISHED).value == pytest.approx(
        value, abs=5e-5
    )


def trec_eval(expected, listed):
    relevance = {"q": {item: len(expected) - i for i, item in enumerate(expected)}}
    run = {"q": {item: float(len(listed) - i) for i, item in enumerate(listed)}}
    return ir_measures.calc_aggregate([nDCG @ len(expected)], relevance, run)[nDCG @ len(expected)]


@settings(deadline=None)
@given(WANTED, LISTED)
def test_against_trec_eval(expected, listed):
    value = trec_eval(expected, listed)
    assert published_ndcg(expected, listed) == pytest.approx(value)
    guard = len(expected) / max(len(expected), len(listed))
    assert guarded_ndcg(expected, listed) == pytest.approx(value * guard)


@given(WANTED, LISTED)
def test_range_and_guard(expected, listed):
    value = guarded_ndcg(expected, listed)
    assert 0 <= value <= 1
    assert (value == 1) == (listed == expected)
    if len(listed) >= len(expected):
        assert guarded_ndcg(expected, [*listed, "junk"]) <= value
