"""The response contract, as a table, and in linear time."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.reward_cases import load_table
from verl_longrl.rewards.matching.response_format import (
    parse_boxed,
    parse_grounded,
    parse_json,
    parse_lines,
    parse_sentence,
    plain_text,
)

CASES = load_table("response_format_grounded")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_contract(case):
    parsed = parse_grounded(case["response"], **case.get("options", {}))
    assert parsed.error == case.get("error", "")
    assert list(parsed.cited) == case.get("cited", [])
    assert parsed.answer == case.get("answer", "")


@pytest.mark.parametrize(
    "piece",
    [
        "<answer>",
        "<useful_chunks>",
        "<CHUNK_1",
        "<think>",
        "< ",
        "<CHUNK_" + "1" * 50,
        "</think>",
        "<answer></answer>",
    ],
)
@pytest.mark.parametrize("paper_exact", [False, True])
def test_no_input_is_slow(piece, paper_exact):
    response = piece * (500_000 // len(piece))
    started = time.perf_counter()
    parse_grounded(response, paper_exact=paper_exact)
    parse_grounded(f"<useful_chunks>{response}</useful_chunks><answer>a</answer>", paper_exact=paper_exact)
    assert time.perf_counter() - started < 20  # seconds; quadratic time would take minutes


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(["<answer>", "</answer>", "<useful_chunks>", "</useful_chunks>", "<CHUNK_3>", "x", "</think>"])
    )
)
def test_either_an_answer_or_a_reason(pieces):
    parsed = parse_grounded("".join(pieces))
    assert not (parsed.error and (parsed.cited or parsed.answer))
    text = "".join(pieces).rpartition("</think>")[2]
    assert (parsed.error == "") == (
        [p for p in ("<useful_chunks>", "</useful_chunks>", "<answer>", "</answer>") if text.count(p) == 1]
        == ["<useful_chunks>", "</useful_chunks>", "<answer>", "</answer>"]
        and text.index("<useful_chunks>")
        < text.index("</useful_chunks>")
        < text.index("<answer>")
        < text.index("</answer>")
    )


BOXED = load_table("response_format_boxed")


@pytest.mark.parametrize("case", BOXED, ids=lambda case: case["name"])
def test_boxes(case):
    parsed = parse_boxed(case["response"], **case.get("options", {}))
    assert parsed.error == case.get("error", "")
    assert parsed.answer == case.get("answer", "")


@pytest.mark.parametrize(
    "piece", ["\\boxed{", "{", "}", "\\", "\\boxed{a}", "\\text{", "answer ", "answer:", "Answer:\n"]
)
def test_no_box_is_slow(piece):
    response = piece * (500_000 // len(piece))
    started = time.perf_counter()
    for text in (response, "\\boxed{" + response):
        plain_text(parse_boxed(text, answer_line=True).answer)
        plain_text(text)
    assert time.perf_counter() - started < 20


@given(st.lists(st.sampled_from(["{", "}", "a", " ", "\\frac", "\\{", "\\\\"])))
def test_a_balanced_answer_comes_back_whole(pieces):
    answer = "".join(pieces)
    depths = [0]
    for piece in pieces:
        depths.append(depths[-1] + {"{": 1, "}": -1}.get(piece, 0))
    if depths[-1] == 0 and min(depths) == 0:
        assert parse_boxed(f"<think>\\boxed{{no}}</think> \\boxed{{{answer}}} }}").answer == answer.strip()


@pytest.mark.parametrize(
    ("latex", "text"),
    [
        ("\\text{Paris}", "Paris"),
        ("\\textbf{New}\\ \\textbf{York}", "New York"),
        ("\\text{\\textbf{a}}\\quad \\mathrm{b}", "a  b"),
        ("\\textheight \\frac{1}{2}", "\\textheight \\frac12"),
        ("\\{1\\}", "\\{1\\}"),
        ("plain", "plain"),
    ],
)
def test_plain_text(latex, text):
    assert plain_text(latex) == text


LINES = load_table("response_format_lines")


@pytest.mark.parametrize("case", LINES, ids=lambda case: case["name"])
def test_answer_lines(case):
    parsed = parse_lines(case["response"], **case.get("options", {}))
    assert parsed.error == case.get("error", "")
    assert list(parsed.answer) == case.get("lines", [])


@pytest.mark.parametrize(
    ("response", "text"),
    [
        ("The answer is 42.", "42."),
        ("Therefore, the answer is (42).\nGood luck!", "(42)."),
        ("The answer is 41. No, the answer is 42", "42"),
        ("**Answer:** 42", "** 42"),
        ("[Answer]\n42\n43", "42"),
        ("答案是：42", "42"),
        ("so\n\n42\n", "42"),
        ("The answer is\n42", "42"),
        ("The answer is 41</think>42", "42"),
        ("", ""),
    ],
)
def test_answer_sentences(response, text):
    parsed = parse_sentence(response)
    assert parsed.answer == text
    assert bool(parsed.error) == (not text)


@pytest.mark.parametrize(
    ("response", "values"),
    [
        ('{"a": 1}', [{"a": 1}]),
        ('see [1]: {"a": [2]} or [3]', [[1], {"a": [2]}, [3]]),
        ('```json\n[{"a": 1}]\n```', [[{"a": 1}]]),
        ("<answer>[1]</answer> [2] <answer>[3]</answer> [4]", [[3]]),
        ("<answer>[1]", [[1]]),
        ("[1]</think>[2]", [[2]]),
        ("{a} [b] {", []),
        ("[" * 5000, []),
        (f"[{'9' * 5000}] [1]", []),
        ('{"data": [[1], [2]', []),
        ('{"data": [[1], [2]]} {"data": [[', [{"data": [[1], [2]]}]),
    ],
)
def test_json(response, values):
    parsed = parse_json(response)
    assert list(parsed.answer) == values
    assert bool(parsed.error) == (not values)
