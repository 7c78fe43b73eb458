"""Answer correctness by rule: right, wrong, and every known way to cheat."""

import time
from pathlib import Path

import pytest
import yaml
from verl_longrl.rewards import AnswerOptions, RewardOptions
from verl_longrl.rewards.answers import correctness, gold_answers, token_f1, tokens

TABLE = yaml.safe_load((Path(__file__).parent / "cases/answers.yaml").read_text())


@pytest.mark.parametrize(
    ("expected", "case"),
    [(float(kind == "correct"), case) for kind, cases in TABLE.items() for case in cases],
    ids=lambda value: f"{value['candidate']!r} for {value['gold']!r}" if isinstance(value, dict) else "",
)
def test_table(expected, case):
    answer = AnswerOptions(mode=case.get("mode", "contain"), f1_threshold=case.get("f1_threshold", 0.8))
    assert correctness(case["candidate"], case["gold"], RewardOptions(answer=answer)) == expected


@pytest.mark.parametrize("mode", ["exact", "contain", "f1"])
@pytest.mark.parametrize(
    "case", [case for case in TABLE["gaming"] if "mode" not in case], ids=lambda c: repr(c["candidate"])
)
def test_no_mode_pays_for_cheating(mode, case):
    assert correctness(case["candidate"], case["gold"], RewardOptions(answer=AnswerOptions(mode=mode))) == 0


def test_a_verdict_overrules_the_rule():
    assert correctness("Rome", "Paris", RewardOptions(verdict=1.0)) == 1
    assert correctness("Paris", "Paris", RewardOptions(verdict=0.0)) == 0


@pytest.mark.parametrize("gold", ["", "  ", "?!", [], [""], ["Paris", ""], None])
def test_an_empty_gold_answer_is_an_error_not_a_match(gold):
    with pytest.raises(ValueError, match="nothing to compare"):
        gold_answers(gold)


def test_numpy_gold():
    import numpy

    assert gold_answers(numpy.array(["a1", "b2"])) == ["a1", "b2"]


def test_token_f1_is_squads():
    assert token_f1("Battle of Waterloo", "the Battle of Hastings") == pytest.approx(2 / 3)
    assert token_f1("x", "y") == 0


@pytest.mark.parametrize("piece", ["1", "1,", "1,111", "a.", "is ", "-", "1.", "a the ", "，", ": "])
def test_no_answer_is_slow(piece):
    started = time.perf_counter()
    correctness(piece * 500_000, "Paris 12", RewardOptions())
    tokens(piece * 500_000)
    assert time.perf_counter() - started < 20
