"""Lines as items: what is forgiven, what is not, and that two expected items never become one."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from verl_longrl.rewards import RewardOptions, score
from verl_longrl.rewards.matching.list_items import MAX_LINES, comparable_items

NAMES = ["golongrl_exhaustive", "golongrl_matching", "golongrl_ranking", "golongrl_ordering", "golongrl_qa"]


@pytest.mark.parametrize(
    "line",
    [
        "New York", "new  york.", "“New York”", "**New York**", "`New York`", "- New York", "* New York", "• New York",
        "1. New York", "1) New York", "(1) New York", "（１）New York", "[12] New York", "12、New York", "③ New York",
        "- 3. New York", "一、New York", "（二）Ｎｅｗ Ｙｏｒｋ", "3: New York",
    ],
)  # fmt: skip
def test_one_item_in_many_spellings(line):
    compared = comparable_items(["New York"], [line])
    assert compared.expected == compared.listed


@pytest.mark.parametrize(
    ("line", "gold"),
    [("York", "New York"), ("-5", "5"), ("5.1", "1"), ("12:30", "30"), ("1990. Film", "Film"), ("A. Film", "Film")],
)
def test_another_item(line, gold):
    assert comparable_items([gold], [line]).recall == 0


def test_a_number_in_an_expected_item_counts():
    assert comparable_items(["1. yes", "2. no"], ["2. yes", "1. no"]).recall == 0
    assert comparable_items(["1. yes", "2. no"], ["2. no", "1. yes"]).recall == 1
    assert comparable_items(["3. Liga"], ["3. Liga"]).recall == 1


@pytest.mark.parametrize("golds", [["f(a)", "f[a]"], ["$5", "€5"], ["a - b", "a b"], ["3.10", "3.1"]])
def test_two_expected_items_never_become_one(golds):
    compared = comparable_items(golds, [golds[0].upper(), f"2. {golds[1]}"])
    assert len(compared.expected) == 2
    assert compared.recall == compared.precision == 1
    assert comparable_items(golds, golds[:1]).recall == 0.5


def test_decimals_after_names_are_names():
    assert comparable_items(["Python 3.10"], ["Python 3.1"]).recall == 0
    assert comparable_items(["3.10 m"], ["3.1 m"]).recall == 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("response", ["a\nb", "[Answer]\na\nb</think>a\nb", "<think>[Answer]\na\nb", "[Answer]\n \n"])
def test_malformed(name, response):
    result = score(name, response, ["a", "b"])
    assert (result.status, result.value, result.parts) == ("format_error", 0, {})
    assert result.reason


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gold", ["", [], [" "], None, {"doc_ids": [], "golden_label": ""}, [["a"]], 5])
@pytest.mark.parametrize("paper_exact", [False, True])
def test_a_row_that_asks_for_nothing_is_the_rows_fault(name, gold, paper_exact):
    result = score(name, "x</think>[Answer]\na", gold, options=RewardOptions(paper_exact=paper_exact))
    assert (result.status, result.value) == ("scorer_error", 0)
    assert "Fix: write a list of texts, or a text with one item on each line" in result.reason


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("piece", ["a\n", "a", "1. ", "[Answer]", "（", "- ", "A, ", "*", "\n", "`"])
def test_no_answer_is_slow(name, piece):
    started = time.perf_counter()
    for paper_exact in (False, True):
        options = RewardOptions(paper_exact=paper_exact)
        assert score(name, f"x</think>[Answer]\n{piece * (200_000 // len(piece))}", "b\nc", options=options).value == 0
    assert time.perf_counter() - started < 20


def test_an_endless_list_earns_nothing():
    golds = [f"item {i}" for i in range(5)]
    lines = [*golds, *(f"junk {i}" for i in range(MAX_LINES))]
    assert score("golongrl_matching", "[Answer]\n" + "\n".join(lines), golds).value == 0


@settings(deadline=None)
@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1), st.sampled_from(NAMES[:3]))
def test_gold_earns_everything(golds, name):
    golds = [" ".join(gold.split()) for gold in golds]
    golds = [gold for gold in golds if not set(gold) <= set("`-=_*")] or ["a"]
    marked = any("[answer]" in gold.casefold() for gold in golds)
    assert marked or score(name, "[Answer]\n" + "\n".join(golds), golds).value == pytest.approx(1)
