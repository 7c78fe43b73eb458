"""JSON in whatever wrapping models put it."""

import pytest

from data_gen.llm_json import UnreadableReply, final_text, read_json

OBJECT = '{"question": "q", "answer": "a"}'


@pytest.mark.parametrize(
    "reply",
    [
        OBJECT,
        f"  \n{OBJECT}\n\n",
        f"```json\n{OBJECT}\n```",
        f"```\n{OBJECT}\n```",
        f"Sure, here it is:\n```json\n{OBJECT}\n```\nAnything else?",
        f"Here you are: {OBJECT} I hope this helps {{smile}}.",
        f'<think>maybe {{"question": "x", "answer": "y"}} or {{ not json</think>\n{OBJECT}',
        f'reasoning without the opening tag, with {{"question": "x", "answer": "y"}}</think>{OBJECT}',
        f'First try: {{"question": "x", "answer": "y"}}\nBetter: {OBJECT}',
        f"{OBJECT}\nSet S = {{1, 2}}",
        '{"outer": {"question": "inner"}} ' + OBJECT,
        "x_{a} " * 200 + OBJECT,
    ],
)
def test_the_object_is_found(reply):
    assert read_json(reply, ("question", "answer")) == {"question": "q", "answer": "a"}


def test_line_breaks_inside_strings():
    assert read_json('{"question": "two\nlines", "answer": "a"}', ("question",))["question"] == "two\nlines"


@pytest.mark.parametrize(
    ("reply", "finish_reason", "message"),
    [
        ('{"question": "q", "ans', "length", "cut off at max_tokens"),
        ('{"question": "q", "ans', "stop", "no JSON object with the keys answer, question; the reply ends"),
        ('{"question": "q"}', "stop", "no JSON object with the keys answer, question"),
        ("[1, 2]", "stop", "no JSON object"),
        ("", "stop", "no JSON object"),
        ("I cannot help with that.", "stop", "no JSON object"),
        (f"<think>still thinking {OBJECT}", "stop", "the reasoning never ended"),
        ("{" * 5000, "stop", "no JSON object"),
        ('{"question": ' + "[" * 100_000, "stop", "no JSON object"),
    ],
)
def test_what_cannot_be_read_is_an_error_that_quotes_it(reply, finish_reason, message):
    with pytest.raises(UnreadableReply, match=message):
        read_json(reply, ("question", "answer"), finish_reason)


def test_final_text():
    assert final_text("<think>a</think> b </think>  c \n") == "c"
