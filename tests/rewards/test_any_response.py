"""No response is a scorer's fault: whatever the text and whatever a row asks for, it gets a score."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from verl_longrl.rewards import GoldError, RewardOptions, check_gold, score

PIECES = st.sampled_from(
    [
        "<think>", "</think>", "[Answer]\n", "【答案】", "\\boxed{", "}", "<answer>", "</answer>", "<useful_chunks>",
        "</useful_chunks>", "<CHUNK_1>", "The correct answer is ", "(B)", "Answer: ", "####", "| a | b |\n",
        "a,b\n", '{"data": [[', "]]}", "{'a': ", "[", "]", "\\frac{", "\\sqrt", "^", "!", "\\sum_", "\\gcd(", "&",
        "$", "**", "`", "- ", "1. ", "\n", "12", "0.5", "1e999", "-", "not ", " or ", "的", "\u0660", "\ud800", "\0",
    ]
)  # fmt: skip
RESPONSES = st.lists(PIECES | st.text(max_size=8), max_size=12).map("".join)
TEXTS = st.text(min_size=1, max_size=12) | st.sampled_from(
    ["34", "\\frac12", "x^2-1", "NASA", "AC", "yes", "北京", "$5"]
)
LISTS = st.lists(TEXTS, min_size=2, max_size=4, unique=True)
CELLS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
TABLES = st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1, max_size=3).map(lambda rows: {"data": rows})
GOLDS = {
    "longrlvr": TEXTS | LISTS,
    "loongrl_qa": TEXTS | LISTS,
    "loongrl_choice": st.sampled_from("ABab"),
    "loongrl_retrieval": TEXTS | LISTS,
    "math": TEXTS | LISTS,
    "golongrl_retrieval": TEXTS | LISTS,
    "golongrl_qa": TEXTS | LISTS,
    "golongrl_choice": st.sampled_from("ABab"),
    "golongrl_exhaustive": TEXTS | LISTS,
    "golongrl_math": TEXTS | LISTS,
    "golongrl_table": TABLES,
    "golongrl_matching": TEXTS | LISTS,
    "golongrl_ranking": TEXTS | LISTS,
    "golongrl_ordering": LISTS,
    "golongrl_summary": TEXTS | LISTS,
}
EVIDENCE = {"ref_chunks": [1, 2], "num_chunks": 9}


def is_valid(name, gold):
    try:
        check_gold(name, gold, EVIDENCE)
    except GoldError:
        return False
    return True


@pytest.mark.parametrize("name", GOLDS)
@settings(deadline=None, max_examples=40)
@given(st.data(), RESPONSES, st.booleans(), st.booleans())
def test_every_response_gets_a_score(name, data, response, paper_exact, require_think):
    gold = data.draw(GOLDS[name].filter(lambda gold: is_valid(name, gold)))
    options = RewardOptions(paper_exact=paper_exact, require_think=require_think)
    result = score(name, response, gold, EVIDENCE, options=options)
    assert result.status in ("ok", "format_error"), result.reason
    assert 0 <= result.value <= 2
    assert math.isfinite(sum(result.metrics().values()))
    assert bool(result.reason) == (result.status == "format_error")
