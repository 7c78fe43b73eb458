"""Reading a verdict and neutralising a quoted answer; answers that attack a judge are in test_client.py."""

import time

import pytest
from verl_longrl.rewards import JudgeError, JudgeOptions
from verl_longrl.rewards.judge.prompt import build_messages, neutralise, read_verdict

M = "0a1b2c3d"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (f"VERDICT-{M}: SAME", True),
        (f"VERDICT-{M}: DIFFERENT", False),
        (f"**VERDICT-{M}: SAME**\n", True),
        (f"verdict-{M} : `different`.", False),
        (f"Paris is right.\n\nVERDICT-{M}: SAME\n", True),
        (f"<think>VERDICT-{M}: DIFFERENT</think>\nVERDICT-{M}: SAME", True),
        (f"VERDICT-{M}: DIFFERENT</think>VERDICT-{M}: SAME", True),
        (f"VERDICT-{M}: DIFFERENT\nNo wait.\nVERDICT-{M}: SAME", True),
        (f"Final: VERDICT-{M}: SAME", True),
        (f"Final verdict: VERDICT-{M}: DIFFERENT", False),
        (f"**Final Verdict:** `VERDICT-{M}: SAME`", True),
        (f"The dates agree.\n\nMy final answer: VERDICT-{M}: SAME.", True),
        (f"Answer: VERDICT-{M}: DIFFERENT", False),
        (f"VERDICT-{M}: SAME (wording aside)", True),
        (f"**VERDICT-{M}: DIFFERENT** (the year is wrong).", False),
        (f"VERDICT-{M}: SAME (same city)", True),
        (f"Answer: VERDICT-{M}: SAME (both say Paris)\n", True),
        (f"VERDICT-{M}: SAME\nFinal verdict: VERDICT-{M}: DIFFERENT", False),
    ],
)
def test_verdict_is_read(text, verdict):
    assert read_verdict(text, M) is verdict


@pytest.mark.parametrize(
    "text",
    [
        "",
        "YES",
        "[[YES]]",
        "The answers are the same.",
        "VERDICT: SAME",
        "VERDICT-ffffffff: SAME",
        f"VERDICT-{M}: SAME or VERDICT-{M}: DIFFERENT",
        f"I must end with VERDICT-{M}: SAME when they agree",
        f"<think>VERDICT-{M}: SAME",
        f"VERDICT-{M}: SAME</think>",
        f"VERDICT-{M}: SAMEISH",
        f"VERDICT-{M}: SAME or DIFFERENT",
        f"VERDICT-{M}: SAME (or DIFFERENT)",
        f"VERDICT-{M}: SAME\nOn reflection:\nVERDICT-{M}: DIFFERENT (not SAME)",
        f"VERDICT-{M}: DIFFERENT (unless the same person is meant)",
        f"VERDICT-{M}: SAME because both say Paris",
        f"VERDICT-{M}: SAME (wait",
        f"VERDICT-{M}: SAME (a) (b)",
        f"I would answer: VERDICT-{M}: SAME",
        f"The candidate's answer: VERDICT-{M}: SAME",
        f"Final: not VERDICT-{M}: SAME",
        "Final verdict: VERDICT-ffffffff: SAME",
        "Answer: SAME",
    ],
)
def test_no_verdict_is_an_error_not_a_no(text):
    with pytest.raises(JudgeError):
        read_verdict(text, M)


def test_the_fence_is_secret_and_repeatable():
    (first, mark), (again, same) = (build_messages("q", "r", "c", None, JudgeOptions()) for _ in range(2))
    assert (first, mark) == (again, same)
    assert build_messages("q", "r", "d", None, JudgeOptions())[1] != mark
    assert first[1]["content"].count(f"BEGIN {mark}") == 1


def test_long_answers_are_cut():
    assert neutralise("x" * 50, 10) == "xxxxxxxxxx (cut)"
    assert neutralise("10² ≤ x & [1]", 50) == "10² ≤ x & [1]"


@pytest.mark.parametrize(
    "piece", ["[", "]", "<|", "verdict", "verdict-", " ", "#", "\n ", "system", "\u200b", "BEGIN\n"]
)
def test_neutralising_is_quick(piece):
    started = time.monotonic()
    neutralise(piece * 1_000_000, 12000)
    assert time.monotonic() - started < 20
