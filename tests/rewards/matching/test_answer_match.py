"""Answer correctness by rule: right, wrong, and every known way to cheat."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.reward_cases import load_table
from verl_longrl.rewards import AnswerOptions, RewardOptions
from verl_longrl.rewards.matching.answer_match import correctness, equals_gold, gold_answers
from verl_longrl.rewards.matching.tokens import MAX_CHARS, answer_tokens

TABLE = load_table("answer_match")


@pytest.mark.parametrize(
    ("expected", "case"),
    [(float(kind == "correct"), case) for kind, cases in TABLE.items() for case in cases],
    ids=lambda value: f"{value['candidate']!r} for {value['gold']!r}" if isinstance(value, dict) else "",
)
def test_table(expected, case):
    answer = AnswerOptions(mode=case.get("mode", "contain"), f1_threshold=case.get("f1_threshold", 0.8))
    question = {"question": case.get("question", "")}
    assert correctness(case["candidate"], case["gold"], RewardOptions(answer=answer), extra_info=question) == expected


@pytest.mark.parametrize("mode", ["exact", "contain", "f1"])  # two_way: test_two_way_match.py
@pytest.mark.parametrize(
    "case", [case for case in TABLE["gaming"] if "mode" not in case], ids=lambda c: repr(c["candidate"])
)
def test_no_mode_pays_for_cheating(mode, case):
    options, question = RewardOptions(answer=AnswerOptions(mode=mode)), {"question": case.get("question", "")}
    assert correctness(case["candidate"], case["gold"], options, extra_info=question) == 0


def test_a_verdict_overrules_the_rule():
    assert correctness("Rome", "Paris", RewardOptions(verdict=1.0)) == 1
    assert correctness("Paris", "Paris", RewardOptions(verdict=0.0)) == 0


@pytest.mark.parametrize(
    "gold", ["", "  ", "?!", "-", [], [""], ["Paris", ""], ["Paris", None], None, {"city": "Paris"}, [["Paris"]]]
)
def test_an_empty_gold_answer_is_an_error_not_a_match(gold):
    with pytest.raises(ValueError, match="nothing to compare"):
        gold_answers(gold)


def test_numpy_gold():
    import numpy

    assert gold_answers(numpy.array(["a1", "b2"])) == ["a1", "b2"]


@pytest.mark.parametrize("mode", ["exact", "contain", "two_way", "f1"])
def test_nothing_hides_behind_the_cut(mode):
    hidden = "Paris" + " ." * MAX_CHARS + " or London"
    assert correctness(hidden, "Paris", RewardOptions(answer=AnswerOptions(mode=mode))) == 0
    assert not equals_gold(hidden, "Paris")


@given(st.text(st.characters(max_codepoint=126, min_codepoint=32), max_size=40))
def test_case_and_emphasis_change_nothing(text):
    assert answer_tokens(text.upper()) == answer_tokens(text.lower())
    assert all(answer_tokens(f'**"{word}".**') == answer_tokens(word) for word in text.split() if word.isalnum())


PIECES = [
    "1",
    "1,",
    "1,111",
    "a.",
    "is ",
    "-",
    "1.",
    "a the ",
    "，",
    ": ",
    "a  ",
    " ",
    "²",
    "^{1",
    "=",
    "<",
    "+ /",
    "*a",
]
PIECES += ["a*", "a/", "1/1/", "1km", "1.1km", "ab-", "v.1", "per cent ", "5½", "€", "x 1.1 "]


@pytest.mark.parametrize("piece", PIECES)
def test_no_answer_is_slow(piece):
    started = time.perf_counter()
    correctness(piece * 500_000, "Paris 12", RewardOptions())
    correctness((piece * MAX_CHARS)[:MAX_CHARS], "Paris" + piece * MAX_CHARS, RewardOptions())
    answer_tokens(piece * 500_000)
    assert time.perf_counter() - started < 20
