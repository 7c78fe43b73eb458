"""SubEM: the table, against counting, and that listing candidates pays no more than picking one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.reward_cases import check_listing, listing, load_rows
from verl_longrl.rewards import score
from verl_longrl.rewards.tasks.golongrl_subem import subem

ITEMS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=12)


@pytest.mark.parametrize(("kind", "case"), load_rows("golongrl_subem"))
def test_table(kind, case):
    parts = check_listing("golongrl_matching", case).parts
    assert (kind == "correct") <= (parts["recall"] == parts["precision"] == 1)


@given(ITEMS, ITEMS)
def test_against_counting(expected, listed):
    found = [item for item in dict.fromkeys(expected) if item in listed]
    value = score("golongrl_matching", listing(listed), expected).value
    assert value == pytest.approx(len(found) / max(len(set(listed)), len(set(expected))))


@given(ITEMS, st.randoms())
def test_any_order_is_right_and_more_than_was_asked_for_is_not_better(expected, random):
    shuffled = random.sample(expected, len(expected))
    assert score("golongrl_matching", listing(shuffled), expected).value == 1
    assert score("golongrl_matching", listing(shuffled * 3), expected).value == 1
    assert score("golongrl_matching", listing([*shuffled, "x"]), expected).value < 1


@pytest.mark.parametrize("candidates", [1, 4, 20])
def test_listing_candidates_pays_no_more_than_picking_one(candidates):
    items = [f"item {i}" for i in range(candidates)]
    assert subem(items[:1], items) == pytest.approx(1 / candidates)
