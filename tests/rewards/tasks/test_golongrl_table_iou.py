"""Tables: the cases, rows counted slowly, rows and columns in any order, and JSON made to be slow."""

import json
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.reward_cases import load_table
from verl_longrl.rewards import METRIC_KEYS, RewardOptions, score
from verl_longrl.rewards.tasks.golongrl_table_iou import AnswerTable, compare_tables, read_table

TABLE = load_table("golongrl_table_iou")
GOLD = TABLE.pop("gold")
ROWS = [(kind, case) for kind, cases in TABLE.items() for case in cases]
PUBLISHED = RewardOptions(paper_exact=True)
CELLS = st.one_of(st.integers(-3, 3), st.sampled_from(["a", "b", "1,000", "x y"]), st.none())
TABLES = st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=8)


@pytest.mark.parametrize(("kind", "case"), ROWS, ids=lambda value: value["text"] if isinstance(value, dict) else value)
def test_table(kind, case):
    response, gold = f'<answer>{{"data": [["Ann", 1]]}}</answer></think>{case["text"]}', case.get("gold", GOLD)
    released = {"doc_ids": [], "golden_label": gold if isinstance(gold, str) else json.dumps(gold), "summary": ""}
    for truth in (gold, released):
        result = score("golongrl_table", response, truth)
        assert result.value == pytest.approx(case["value"], abs=5e-5)
        assert result.status == ("format_error" if kind == "malformed" else "ok")
        assert (kind == "correct") == (result.value == 1)
        assert tuple(result.metrics()) == METRIC_KEYS
    tagged = case["text"] if "<answer>" in case["text"] else f"<answer>{case['text']}</answer>"
    published = score("golongrl_table", f"x</think>{tagged}", released, options=PUBLISHED).value
    assert published == pytest.approx(case.get("published", case["value"]), abs=5e-5)


@settings(deadline=None)
@given(TABLES, TABLES)
def test_against_counting(given_rows, expected_rows):
    mine, theirs = (Counter(map(tuple, rows)) for rows in (given_rows, expected_rows))
    common = sum(min(count, theirs[row]) for row, count in mine.items())
    expected = common / (len(given_rows) + len(expected_rows) - common)
    assert compare_tables(AnswerTable(None, given_rows), AnswerTable(None, expected_rows)).iou == pytest.approx(
        expected
    )


@settings(deadline=None)
@given(TABLES, st.permutations([0, 1, 2]), st.randoms())
def test_the_order_of_rows_and_named_columns_does_not_matter(rows, order, random):
    names = ["name", "total", "year"]
    shuffled = [[row[i] for i in order] for row in random.sample(rows, len(rows))]
    expected = {"columns": names, "data": rows}
    for value in (
        {"columns": [names[i].upper() for i in order], "data": shuffled},
        [dict(zip([names[i] for i in order], row, strict=True)) for row in shuffled],
        [[names[i] for i in order], *shuffled],
    ):
        assert score("golongrl_table", f"<answer>{json.dumps(value)}</answer>", expected).value == 1


@given(TABLES, TABLES)
def test_more_rows_than_asked_for_never_help(rows, more):
    expected = AnswerTable(None, rows)
    extra = [["junk", *row[1:]] for row in more]
    assert compare_tables(AnswerTable(None, rows + extra), expected).iou < 1


@pytest.mark.parametrize("value", [5, "a", None, {}, {"columns": ["a"]}, {"data": 5}, [], [1, 2], [[1], 2]])
def test_json_that_is_not_a_table(value):
    assert read_table(value) is None


@pytest.mark.parametrize("gold", ["", "no table", "5", [], {"data": []}, None, {"doc_ids": [], "golden_label": "{}"}])
@pytest.mark.parametrize("paper_exact", [False, True])
def test_a_row_without_a_table_is_the_rows_fault(gold, paper_exact):
    result = score("golongrl_table", 'x</think>{"data": [[1]]}', gold, options=RewardOptions(paper_exact=paper_exact))
    assert (result.status, result.value) == ("scorer_error", 0)
    assert "ground_truth" in result.reason


@pytest.mark.parametrize("piece", ["[", "{", "[[", "[1,", '{"a":', '["[",', "<answer>", "9", "[1]", '{"data":[[1]]}'])
def test_no_answer_is_slow(piece):
    response = "x</think>" + piece * (300_000 // len(piece))
    started = time.perf_counter()
    for paper_exact in (False, True):
        score("golongrl_table", response, GOLD, options=RewardOptions(paper_exact=paper_exact))
    assert time.perf_counter() - started < 20


def test_records_with_different_keys_are_quick():
    started = time.perf_counter()
    records = json.dumps([{f"key{i}": i} for i in range(8000)])
    assert score("golongrl_table", records, GOLD).value == 0
    assert time.perf_counter() - started < 5


def test_records_of_different_keys_are_not_rows():
    gold = {"columns": ["n"], "data": [[i] for i in range(300)]}
    for count in (100, 300):
        assert score("golongrl_table", json.dumps([{f"k{i}": i} for i in range(count)]), gold).value == 0


def test_a_table_that_is_too_long_earns_nothing():
    row = ["x" * 400, 1]
    for count, value in ((1000, 1), (1300, 0)):
        table = {"data": [row] * count}
        assert score("golongrl_table", json.dumps(table), table).value == value
