"""Finding all of something: F1 and SubEM, repaired and as published, against sets counted slowly."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from verl_longrl.rewards import METRIC_KEYS, RewardOptions, score
from verl_longrl.rewards.tasks.golongrl_f1 import f1, share

TABLE = yaml.safe_load((Path(__file__).parents[1] / "cases/item_sets.yaml").read_text())
ROWS = [(kind, case) for kind, cases in TABLE.items() for case in cases]
PUBLISHED = RewardOptions(paper_exact=True)
NAMES = ("golongrl_exhaustive", "golongrl_matching")
ITEMS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=12)


def listing(lines):
    return "so a, b</think>[Answer]\n" + "\n".join(lines)


@pytest.mark.parametrize(
    ("kind", "case"), ROWS, ids=lambda value: str(value["lines"]) if isinstance(value, dict) else value
)
def test_table(kind, case):
    expected = (case["f1"], case["subem"])
    for name, value, published in zip(NAMES, expected, case.get("published", expected), strict=True):
        result = score(name, listing(case["lines"]), case["gold"])
        assert result.status == "ok"
        assert result.value == result.parts["answer"] == pytest.approx(value, abs=5e-5)
        assert result.parts["format"] == 1
        assert (kind == "correct") <= (result.parts["recall"] == result.parts["precision"] == 1)
        assert tuple(result.metrics()) == METRIC_KEYS
        paper_exact = score(name, listing(case["lines"]), case["gold"], options=PUBLISHED)
        assert paper_exact.value == pytest.approx(published, abs=5e-5)


@given(ITEMS, ITEMS)
def test_against_counting(wanted, listed):
    found = [item for item in dict.fromkeys(wanted) if item in listed]
    precision, recall = len(found) / len(set(listed)), len(found) / len(set(wanted))
    expected = 2 * precision * recall / (precision + recall) if found else 0
    result = score("golongrl_exhaustive", listing(listed), wanted)
    assert result.value == pytest.approx(expected)
    assert (result.parts["precision"], result.parts["recall"]) == (precision, recall)
    assert score("golongrl_matching", listing(listed), wanted).value == pytest.approx(min(precision, recall))


@pytest.mark.parametrize("name", NAMES)
@given(ITEMS, st.randoms())
def test_gold_in_any_order_is_right_and_more_of_it_is_not_better(name, wanted, random):
    shuffled = random.sample(wanted, len(wanted))
    assert score(name, listing(shuffled), wanted).value == 1
    assert score(name, listing(shuffled * 3), wanted).value == 1
    assert score(name, listing([*shuffled, "x"]), wanted).value < 1


@pytest.mark.parametrize("candidates", [1, 4, 20])
def test_listing_candidates_pays_no_more_than_picking_one(candidates):
    items = [f"item {i}" for i in range(candidates)]
    assert share(items[:1], items) == pytest.approx(1 / candidates)
    assert f1(items[:1], items) == pytest.approx(2 / (1 + candidates))
