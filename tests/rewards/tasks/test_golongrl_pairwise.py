"""Putting things in order: the table, Kendall's tau, and that leaving lines out never pays."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau
from support.reward_cases import check_listing, listing, load_rows
from verl_longrl.rewards import RewardOptions, score
from verl_longrl.rewards.tasks.golongrl_pairwise import pairwise, published_pairwise

WANTED = list("abcdefg")
SOME = st.lists(st.sampled_from("abcdefgxyz"), max_size=10, unique=True)


@pytest.mark.parametrize(("kind", "case"), load_rows("golongrl_pairwise"))
def test_table(kind, case):
    assert (kind == "correct") == (check_listing("golongrl_ordering", case).value == 1)


@given(st.permutations(WANTED))
def test_against_kendalls_tau(listed):
    tau = kendalltau(range(len(WANTED)), [listed.index(item) for item in WANTED]).statistic
    assert pairwise(WANTED, listed) == pytest.approx((tau + 1) / 2)
    assert published_pairwise(WANTED, listed) == pytest.approx((tau + 1) / 2)
    assert pairwise(WANTED, listed) + pairwise(WANTED, listed[::-1]) == pytest.approx(1)


@given(SOME)
def test_against_counting(listed):
    right = sum(x in listed and y in listed and listed.index(x) < listed.index(y) for x, y in combinations(WANTED, 2))
    longer = max(len(WANTED), len(listed))
    assert pairwise(WANTED, listed) == pytest.approx(right / (longer * (longer - 1) / 2))


@given(SOME, st.integers(0, 9))
def test_leaving_out_or_adding_lines_never_pays(listed, at):
    value = pairwise(WANTED, listed)
    assert 0 <= value <= 1
    assert pairwise(WANTED, listed[:at] + listed[at + 1 :]) <= value or len(listed) > len(WANTED)
    if len(listed) >= len(WANTED):
        assert pairwise(WANTED, [*listed, "junk"]) <= value


@pytest.mark.parametrize("gold", [["a"], ["a", " A "], "a"])
@pytest.mark.parametrize("paper_exact", [False, True])
def test_a_row_with_nothing_to_order_is_the_rows_fault(gold, paper_exact):
    result = score("golongrl_ordering", listing("a"), gold, options=RewardOptions(paper_exact=paper_exact))
    assert result.status == "scorer_error"
    assert "Fix: write at least two different items" in result.reason
