"""Multiple choice: however the letter is written, and never two."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.reward_cases import load_table
from verl_longrl.rewards import METRIC_KEYS, resolve, score

TABLE = load_table("loongrl_choice")


def boxed(text):
    return f"(A) looks right</think> \\boxed{{{text}}} or (A)"


@pytest.mark.parametrize(
    ("expected", "case"),
    [(float(kind == "correct"), case) for kind, cases in TABLE.items() for case in cases],
    ids=lambda value: f"{value['box']!r} for {value['gold']!r}" if isinstance(value, dict) else "",
)
def test_table(expected, case):
    result = score("loongrl_choice", boxed(case["box"]), case["gold"])
    assert (result.status, result.value) == ("ok", expected)
    assert result.parts == {"answer": expected, "format": 1.0}
    assert tuple(result.metrics()) == METRIC_KEYS


LETTERS = ["A", "b", "(C)", "D)", "e.", "\\text{A}"]


@given(st.lists(st.sampled_from([*LETTERS, ",", "/", "or", "and", "$", "12 km"]), max_size=5))
def test_two_letters_are_not_a_choice(pieces):
    right = [letter for letter in "ABCDE" if score("loongrl_choice", boxed(" ".join(pieces)), letter).value]
    assert len(right) <= (sum(piece in LETTERS for piece in pieces) == 1)


@pytest.mark.parametrize("response", ["B", "(B)", "\\boxed{B", "<think>\\boxed{B}"])
def test_malformed(response):
    result = score("loongrl_choice", response, "B")
    assert (result.status, result.value, result.parts) == ("format_error", 0, {})
    assert result.reason


@pytest.mark.parametrize("gold", ["", "12 km", "AB", "A, B", ["A", "B"], [], None, 2, {"a": 1}])
def test_a_row_without_a_letter_is_the_rows_fault(gold):
    result = score("loongrl_choice", boxed("B"), gold)
    assert (result.status, result.value) == ("scorer_error", 0)
    assert "ground_truth" in result.reason


def test_released_names():
    assert resolve("custom_mathqa_choice_train") is resolve("loongrl_choice")
