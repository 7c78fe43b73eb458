"""The judges' prompts, and which replies are verdicts."""

import pytest

from recipe.longrl.evaluation.judge.protocols import PROTOCOLS, Question, prompt_digest

QUESTION = Question("Who wrote {it}?", "Jane | J. Doe", "It was {reference}.")


def test_published_prompts_are_sent_as_published():
    (aa_lcr,), mark = PROTOCOLS["aa_lcr"].build(QUESTION, b"")
    assert (aa_lcr["role"], mark) == ("user", "")
    # Filled in one pass: braces in a text are not placeholders.
    assert aa_lcr["content"].endswith(
        "The question, for reference only: Who wrote {it}?\nThe OFFICIAL ANSWER: Jane | J. Doe\n"
        "CANDIDATE ANSWER TO ASSESS: It was {reference}.\n\nReply only with CORRECT or INCORRECT."
    )
    (system, user), _ = PROTOCOLS["corpusqa"].build(QUESTION, b"")
    assert system["content"].startswith("You are an expert in verifying if two answers are the same.")
    assert user["content"] == "\nProblem: Who wrote {it}?\nAnswer 1: It was {reference}.\nAnswer 2: Jane | J. Doe\n"


def test_the_fenced_prompt_is_the_same_for_the_same_secret():
    first, again, other = (PROTOCOLS["fenced"].build(QUESTION, secret) for secret in (b"a", b"a", b"b"))
    assert first == again
    assert first[1] != other[1]


@pytest.mark.parametrize(
    ("protocol", "reply", "finish_reason", "verdict"),
    [
        ("fenced", "They agree.\nVERDICT-m: SAME", "stop", True),
        ("fenced", "VERDICT-m: DIFFERENT", "stop", False),
        ("fenced", "VERDICT-x: SAME", "stop", None),
        ("fenced", "VERDICT-m: SAME", "length", None),
        ("fenced", "", "stop", None),
        ("aa_lcr", "CORRECT", "stop", True),
        ("aa_lcr", "<think>INCORRECT?</think>\nCORRECT\n", "stop", True),
        ("aa_lcr", "INCORRECT", "stop", False),
        ("aa_lcr", "The answer is CORRECT", "stop", None),
        ("corpusqa", "Equal.\n[[YES]]", "stop", True),
        ("corpusqa", "[[NO]]", "stop", False),
        ("corpusqa", "[[YES]] or [[NO]]", "stop", False),
        ("corpusqa", "<think>[[NO]]?</think>[[YES]]", "stop", True),
        ("corpusqa", "YES", "stop", None),
        ("corpusqa", "[[YES]] because", "length", None),
    ],
)
def test_replies(protocol, reply, finish_reason, verdict):
    assert PROTOCOLS[protocol].read(reply, "m", finish_reason) is verdict


def test_each_prompt_has_its_own_hash():
    assert len({prompt_digest(name) for name in PROTOCOLS}) == len(PROTOCOLS)
