"""F1 of listed items: the table, against counting, and that listing more never pays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.reward_cases import check_listing, listing, load_rows
from verl_longrl.rewards import score
from verl_longrl.rewards.tasks.golongrl_f1 import f1_of_items

ITEMS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=12)


@pytest.mark.parametrize(("kind", "case"), load_rows("golongrl_f1"))
def test_table(kind, case):
    parts = check_listing("golongrl_exhaustive", case).parts
    assert (kind == "correct") <= (parts["recall"] == parts["precision"] == 1)


@given(ITEMS, ITEMS)
def test_against_counting(expected, listed):
    found = [item for item in dict.fromkeys(expected) if item in listed]
    precision, recall = len(found) / len(set(listed)), len(found) / len(set(expected))
    result = score("golongrl_exhaustive", listing(listed), expected)
    assert result.value == pytest.approx(2 * precision * recall / (precision + recall) if found else 0)
    assert (result.parts["precision"], result.parts["recall"]) == (precision, recall)


@given(ITEMS, st.randoms())
def test_any_order_is_right_and_more_than_was_asked_for_is_not_better(expected, random):
    shuffled = random.sample(expected, len(expected))
    assert score("golongrl_exhaustive", listing(shuffled), expected).value == 1
    assert score("golongrl_exhaustive", listing(shuffled * 3), expected).value == 1
    assert score("golongrl_exhaustive", listing([*shuffled, "x"]), expected).value < 1


@pytest.mark.parametrize("candidates", [1, 4, 20])
def test_listing_candidates_pays_no_more_than_picking_one(candidates):
    items = [f"item {i}" for i in range(candidates)]
    assert f1_of_items(items[:1], items) == pytest.approx(2 / (1 + candidates))
