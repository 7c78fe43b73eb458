"""A gold answer that no response can reach, or that no computer can compare, is a problem of its row."""

from __future__ import annotations

import pytest
from verl_longrl.data.validate import validate_rows

UNREACHABLE = {  # source, truth, message
    "an article": (
        "longrlvr",
        "the",
        "'the': has only articles, and answers are compared without them. Fix: write the",
    ),
    "several articles": ("loongrl_qa", ["The", "an"], "['The', 'an']: has only articles"),
    "a tag of the response": ("longrlvr", "</answer>", "'</answer>': has nothing to compare"),
    "an answer in its tags": ("longrlvr", "<answer>Paris</answer>", "(two <answer> blocks, expected one)"),
    "reasoning": ("EM", "<think>Paris", "(<think> without </think>: the reasoning never ended)"),
    "the end of reasoning": ("golongrl_summary", "x </think>", "(no answer after the reasoning)"),
    "an item of two lines": ("golongrl_exhaustive", ["a\nb", "c"], "(0.4 of 1)"),
    "an open brace": ("math", "\\frac{1", "(the last \\boxed{ has no closing brace)"),
    "a text that is not read to its end": ("longrlvr", "word " * 3000, "(0 of 1)"),
    "a tower of powers": ("math", "9^9^9^9", "no machine can compute 9^9^9^9: it has more than 100000 digits"),
    "a tower in braces": ("math", "1+\\left(2^{10^{10^{10}}}\\right)", "no machine can compute"),
    "a long power": ("math_longcot_math_verify", "7**9999999", "no machine can compute 7**9999999"),
    "a factorial": ("math", "200000!", "no machine can compute 200000!"),
}


@pytest.mark.parametrize("case", UNREACHABLE)
def test_a_truth_that_no_answer_reaches_is_named(make_row, case):
    source, truth, message = UNREACHABLE[case]
    row = make_row() | {"data_source": source, "reward_model": {"ground_truth": truth}}
    (line,) = validate_rows([row], name="train.parquet").lines()
    assert line.startswith("train.parquet: row 0: reward_model.ground_truth = ")
    assert message in line


REACHABLE = {
    "longrlvr": ["Paris", "A", "a < b", ">=", "5", "x | y", ["the", "Paris"], "no", "C++", "[1, 2]"],
    "loongrl_qa": ["Paris", "f(x) = {1}", "x}", "100%", "a"],
    "loongrl_retrieval": [["12", "a b"], "x"],
    "EM": ["line\nline", "The answer is 5"],
    "golongrl_qa": ["AB", "Paris, France", "A"],
    "golongrl_ranking": [["1. a", "b"], ["f(x)", "f[x]"]],
    "golongrl_table": ['[[null, 1], ["a", 2]]', '{"columns": ["a"], "data": [[1.5], ["</x>"]]}'],
    "math": ["2^{64}", "10^{100}", "x^{100}", "\\frac{1}{2}", "Monday", "Monday!", "20!", "2^{10}3^{5}"],
    "math_dapo": [
        "1^{1^{999999999}}",
        "\\frac{10^{6}}{10^{5}}",
        "(2^{10})^{20}",
        "\\binom{10}{5}",
        "x^{1000}",
        "e^{-x^2}",
    ],
    "golongrl_math": ["3", "\\{1, 2\\}"],
}


@pytest.mark.parametrize("source", REACHABLE)
def test_truths_that_an_answer_reaches_pass(make_row, source):
    truths = REACHABLE[source]
    rows = [make_row() | {"data_source": source, "reward_model": {"ground_truth": truth}} for truth in truths]
    assert validate_rows(rows).problems == []


def test_a_users_scorer_of_the_same_name_has_another_contract(make_row, monkeypatch):
    from verl_longrl.rewards import Score, registry, scorer

    row = make_row() | {"reward_model": {"ground_truth": "</answer>"}}
    assert not validate_rows([row]).ok
    monkeypatch.setattr(registry, "_names", dict(registry._names))
    scorer("longrlvr", replace=True)(lambda *_: Score(0.0))
    assert validate_rows([row]).ok


def test_a_formula_that_is_not_compared_in_time_is_named(make_row):
    truths = ("Monday", "(x+1)^{100000}", "2")
    rows = [make_row() | {"data_source": "math", "reward_model": {"ground_truth": truth}} for truth in truths]
    (line,) = validate_rows(rows).lines()
    assert "row 1: reward_model.ground_truth = '(x+1)^{100000}': the answer cannot be compared as mathematics" in line
    assert "Fix: write a number or formula that a computer can evaluate" in line
