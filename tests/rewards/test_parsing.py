"""The response contract, as a table, and in linear time."""

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from verl_longrl.rewards.parsing import parse_grounded

CASES = yaml.safe_load((Path(__file__).parent / "cases/parser.yaml").read_text())


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
