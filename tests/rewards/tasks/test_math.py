"""Math: what is equal, what is a trick, and that an endless expression is a wrong answer."""

import asyncio
import time

import pytest
from support.reward_cases import load_table
from verl_longrl.rewards import METRIC_KEYS, RewardOptions, resolve, score, score_async
from verl_longrl.rewards.isolation.scorer_pool import IsolatedScorer
from verl_longrl.rewards.matching.number_size import has_more_digits
from verl_longrl.rewards.tasks.math import MAX_DIGITS

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


@pytest.mark.parametrize(
    "name", ["math_dapo", "openai/gsm8k", "lighteval/MATH", "DigitalLearningGmbH/MATH-lighteval", "custom_math_x"]
)
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


ENDLESS = ["\\binom{10^9}{10^8}", "(10^{9})!", "\\binom{10^8}{10^7} + x"]
HUGE = [
    "9^{9^{9^9}}",
    "9**9**9**9",
    "10^{-10^{8}}",
    "2^{10^{8}}",
    "5!!!!",
    "((5!)!)!",
    "(((3!)!)!)!",
    "99999!",
    "9^9999999999",
]


@pytest.mark.parametrize("name", ["math", "golongrl_math"])
@pytest.mark.parametrize("answer", ENDLESS[:1])
def test_an_endless_answer_is_at_fault_and_the_next_one_is_scored(name, answer):
    options = RewardOptions(timeout_s=1.0)
    for response in (boxed(answer), f"x</think>The answer is ${answer}$"):
        result = score(name, response, "34", options=options)
        assert (result.status, result.value) == ("format_error", 0)
        assert "math-verify took too long (limit 0.25 s of CPU time)" in result.reason
        assert score(name, boxed("\\frac{68}{2}"), "34").value == 1


@pytest.mark.parametrize("answer", ENDLESS[1:])
def test_an_endless_answer_inside_an_event_loop(answer):
    async def call():
        return score("math", boxed(answer), "34", options=RewardOptions(timeout_s=0.6))

    assert asyncio.run(call()).status == "format_error"


def test_an_endless_answer_in_a_scorer_process_is_at_fault_too():
    options = RewardOptions(timeout_s=20, workers=1)
    with IsolatedScorer(options) as isolation:
        for answer, status, value in ((ENDLESS[0], "format_error", 0), ("\\frac{68}{2}", "ok", 1)):
            result = asyncio.run(score_async("math", boxed(answer), "34", options=options, isolation=isolation))
            assert (result.status, result.value) == (status, value)
        assert isolation.metrics()["timeouts"] == 0


@pytest.mark.parametrize("answer", HUGE)
def test_huge_numbers_are_refused_at_once(answer):
    assert has_more_digits(answer, MAX_DIGITS)
    assert score("math", boxed(answer), "34").status == "ok"


@pytest.mark.parametrize(
    ("response", "value"),
    [("48+24 = <<48+24=72>>72\n#### 72", 1), ("#### $1,072", 0), ("#### 72\n#### Notes", 1), ("#### Step 72", 0)],
)
def test_the_answer_line_of_gsm8k(response, value):
    row = {"index": 0.0, "split": "train", "question": "?", "answer": "#### 72"}
    assert score("openai/gsm8k", response, "72", row).value == value


@pytest.mark.parametrize("index", ["9a9b6eb4-a1cb-49d1-8c1e-62eaf2f74079", 3.0, None])
def test_rows_of_dapo(index):
    assert score("math_dapo", "Step 1.\n\nAnswer: $34$", "34", {"index": index}).value == 1
