"""Math: what is equal, what is a trick, and that a hanging expression costs only its own deadline."""

import asyncio
import time

import pytest
from support.reward_cases import load_table
from verl_longrl.rewards import METRIC_KEYS, RewardOptions, resolve, score, score_async
from verl_longrl.rewards.isolation.scorer_pool import IsolatedScorer

TABLE = load_table("math")


def boxed(text):
    return f"first \\boxed{{0}}</think> so \\boxed{{{text}}}."


@pytest.mark.parametrize(
    ("expected", "case"),
    [(float(kind == "correct"), case) for kind, cases in TABLE.items() for case in cases],
    ids=lambda value: f"{value['box']!r} for {value['gold']!r}" if isinstance(value, dict) else "",
)
def test_table(expected, case):
    result = score("math", boxed(case["box"]), case["gold"])
    assert (result.status, result.value) == ("ok", expected)
    assert result.parts == {"answer": expected, "format": 1.0}
    assert tuple(result.metrics()) == METRIC_KEYS


def test_the_answer_line_that_dapo_asks_for():
    assert score("math_dapo", "so\nAnswer: 33\n**Answer: $34$**", "34").value == 1
    assert score("math_dapo", "\\boxed{33}\nAnswer: 34", "34").value == 0


@pytest.mark.parametrize("response", ["34", "\\boxed{34", "<think>\\boxed{34}", "Answer: 34</think>34"])
def test_malformed(response):
    result = score("math", response, "34")
    assert (result.status, result.value, result.parts) == ("format_error", 0, {})
    assert result.reason


@pytest.mark.parametrize("gold", ["", "?", [], [""], None, {"a": 1}, [["3"]]])
def test_a_row_without_an_answer_is_the_rows_fault(gold):
    result = score("math", boxed("3"), gold)
    assert (result.status, result.value) == ("scorer_error", 0)
    assert "ground_truth" in result.reason


@pytest.mark.parametrize("name", ["math_dapo", "lighteval/MATH", "DigitalLearningGmbH/MATH-lighteval", "custom_math_x"])
def test_names(name):
    assert resolve(name) is resolve("math")
    assert resolve("custom_mathqa_choice_x") is not resolve("math")


@pytest.mark.parametrize("piece", ["1", "(", "\\text{a}", "\\frac{1}{", " ", "3,", "\\sqrt{"])
def test_a_long_answer_is_wrong_at_once(piece):
    started = time.perf_counter()
    answer = piece * (200_000 // len(piece))
    assert score("math", boxed(answer + "}" * answer.count("{")), "3").value == 0
    assert time.perf_counter() - started < 20


def test_in_a_thread():
    """math-verify's own timeouts would raise here: signals work in main threads only."""
    assert asyncio.run(asyncio.to_thread(score, "math", boxed("\\frac12"), "0.5")).value == 1


def test_a_huge_power_is_killed_and_the_next_answer_scored():
    options = RewardOptions(timeout_s=1.0, workers=1)
    with IsolatedScorer(options) as isolation:

        def outcome(answer, deadline_s):
            own = RewardOptions(timeout_s=deadline_s)
            return asyncio.run(score_async("math", boxed(answer), "34", options=own, isolation=isolation))

        hanging = outcome("9^{9^{9^9}}", 1.0)
        assert (hanging.status, hanging.value) == ("timeout", 0)
        assert outcome("\\frac{68}{2}", 60.0).value == 1
