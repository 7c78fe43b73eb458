"""Multiple choice in a sentence: every way to say it, the last word counts, and never two letters."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.reward_cases import load_rows
from verl_longrl.rewards import METRIC_KEYS, RewardOptions, score

ROWS = load_rows("golongrl_choice")
PUBLISHED = RewardOptions(paper_exact=True)


@pytest.mark.parametrize(
    ("kind", "case"), ROWS, ids=lambda value: repr(value["text"]) if isinstance(value, dict) else value
)
def test_table(kind, case):
    response = f"The correct answer is (E)</think>{case['text']}"
    result = score("golongrl_choice", response, case["gold"])
    assert result.value == (kind == "correct")
    assert result.status == case.get("status", "format_error" if kind == "malformed" else "ok")
    assert result.parts == ({"answer": result.value, "format": 1.0} if result.status == "ok" else {})
    assert tuple(result.metrics()) == METRIC_KEYS
    published = score("golongrl_choice", response, case["gold"], options=PUBLISHED).value
    assert published == case.get("published", result.value)


LETTERS = ["(A)", "B", "(c)", "[D]", "**A**"]


@settings(deadline=None)
@given(st.lists(st.sampled_from([*LETTERS, ",", "/", "or", "and", "maybe"]), max_size=5))
def test_a_sentence_has_one_letter(pieces):
    sentence = f"The correct answer is {' '.join(pieces)}"
    right = [letter for letter in "ABCDE" if score("golongrl_choice", sentence, letter).value]
    assert len(right) <= (sum(piece in LETTERS for piece in pieces) == 1)


@given(st.permutations("ABCDEFGH"))
def test_the_last_word_counts(letters):
    response = " ".join(f"The correct answer is ({letter})." for letter in letters)
    assert [letter for letter in letters if score("golongrl_choice", response, letter).value] == [letters[-1]]


@pytest.mark.parametrize("gold", ["", "12 km", "AB", "A or B", [], None, {"golden_label": "none", "doc_ids": []}])
@pytest.mark.parametrize("paper_exact", [False, True])
def test_a_row_without_a_letter_is_the_rows_fault(gold, paper_exact):
    options = RewardOptions(paper_exact=paper_exact)
    result = score("golongrl_choice", "x</think>The correct answer is (B)", gold, options=options)
    assert (result.status, result.value) == ("scorer_error", 0)
    assert "ground_truth" in result.reason


@pytest.mark.parametrize("piece", ["The correct answer is ", "answer is (A", "or ", "(", "A ", ", ", "答案是"])
def test_no_answer_is_slow(piece):
    started = time.perf_counter()
    for text in (piece * (200_000 // len(piece)), "The correct answer is (A) " + piece * (200_000 // len(piece))):
        score("golongrl_choice", f"x</think>{text}", "B")
    assert time.perf_counter() - started < 20
