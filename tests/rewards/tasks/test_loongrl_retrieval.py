"""Retrieval: the table, a slow count, and that listing more than was asked for does not pay."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.reward_cases import load_table
from verl_longrl.rewards import METRIC_KEYS, RewardOptions, resolve, score
from verl_longrl.rewards.tasks.loongrl_retrieval import match_values

TABLE = load_table("loongrl_retrieval")
NUMBERS = st.lists(st.integers(0, 12).map(str), max_size=12)


def boxed(text):
    return f"reasoning</think> \\boxed{{{text}}}"


@pytest.mark.parametrize(
    ("kind", "case"),
    [(kind, case) for kind, cases in TABLE.items() for case in cases],
    ids=lambda value: f"{value['box']!r} for {value['gold']!r}" if isinstance(value, dict) else value,
)
def test_table(kind, case):
    recall, precision = case["recall"], case["precision"]
    result = score("loongrl_retrieval", boxed(case["box"]), case["gold"])
    assert result.status == "ok"
    assert result.value == pytest.approx(recall * precision, abs=5e-5)
    assert result.parts["recall"] == recall
    assert result.parts["precision"] == pytest.approx(precision, abs=5e-5)
    assert result.parts["answer"] == (kind == "correct")
    assert tuple(result.metrics()) == METRIC_KEYS
    strict = score("loongrl_retrieval", boxed(case["box"]), case["gold"], options=RewardOptions(retrieval="all"))
    assert strict.value == (kind == "correct")
    assert strict.parts == result.parts


@settings(deadline=None)
@given(NUMBERS, NUMBERS.filter(bool))
def test_against_counting(listed, values):
    hits = [number for number in listed if number in values]
    recall, precision = match_values(", ".join(listed), values)
    assert recall == pytest.approx(len(set(hits)) / len(set(values)))
    assert precision == pytest.approx(len(hits) / len(listed) if listed else 0)


@given(NUMBERS.filter(bool), st.integers(1, 30))
def test_more_than_was_asked_for_never_helps(values, extra):
    noise = [str(100 + i) for i in range(extra)]
    box = boxed(" ".join([*values, *noise]))
    assert (
        score("loongrl_retrieval", box, values).value
        < score("loongrl_retrieval", boxed(" ".join(values)), values).value
    )
    assert score("loongrl_retrieval", box, values, options=RewardOptions(retrieval="all")).value == 0


@pytest.mark.parametrize("candidates", [1, 4, 20])
def test_listing_candidates_pays_no_more_than_picking_one(candidates):
    numbers = [str(1000 + i) for i in range(candidates)]
    assert score("loongrl_retrieval", boxed(" ".join(numbers)), numbers[:1]).value == pytest.approx(1 / candidates)


def test_the_whole_book_pays_nothing():
    book = "the quick brown fox 1234567 " * 1000
    assert score("loongrl_retrieval", boxed(book), ["1234567"]).value == 0
    assert score("loongrl_retrieval", boxed("a quick brown fox " * 500 + "1234567"), ["1234567"]).value < 0.001


@pytest.mark.parametrize("response", ["12, 34", "\\boxed{12", "<think>\\boxed{12}"])
def test_malformed(response):
    result = score("loongrl_retrieval", response, ["12"])
    assert (result.status, result.value, result.parts) == ("format_error", 0, {})
    assert result.reason


@pytest.mark.parametrize("gold", [[], [""], None, {"a": 1}, "?"])
def test_a_row_without_values_is_the_rows_fault(gold):
    result = score("loongrl_retrieval", boxed("12"), gold)
    assert result.status == "scorer_error"
    assert "ground_truth" in result.reason
    with pytest.raises(ValueError, match="nothing to look for"):
        match_values("12", ["?"])


def test_names_and_options():
    assert resolve("custom_rulerniah_book_20value") is resolve("loongrl_retrieval")
    with pytest.raises(ValueError, match=r"retrieval = 'any': expected one of fraction, all"):
        RewardOptions.from_dict({"retrieval": "any"})
