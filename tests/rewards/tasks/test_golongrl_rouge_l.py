"""Summaries: the table, rouge-score, long texts, and that the reasoning does not count."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from support.reward_cases import load_rows
from verl_longrl.rewards import METRIC_KEYS, RewardOptions, score
from verl_longrl.rewards.tasks.golongrl_rouge_l import rouge_l, rouge_tokens

ROWS = load_rows("golongrl_rouge_l")
ORACLE = RougeScorer(["rougeL"])
TEXTS = st.lists(
    st.sampled_from(["The", "cat", "sat,", "dog-ran", "it's", "12.5%", "a", "in 1943", "(yes)", "end."]), max_size=40
).map(" ".join)


@pytest.mark.parametrize(
    ("kind", "case"), ROWS, ids=lambda value: repr(value["text"]) if isinstance(value, dict) else value
)
def test_table(kind, case):
    for response in (case["text"], f"x</think>{case['text']}", f"the cat sat</think>\n[Answer]\n{case['text']}"):
        result = score("golongrl_summary", response, case["gold"])
        assert result.value == pytest.approx(case["value"], abs=5e-5)
        assert result.status == ("format_error" if kind == "malformed" else "ok")
        assert (kind == "correct") == (result.value == 1)
        assert tuple(result.metrics()) == METRIC_KEYS


@settings(deadline=None)
@given(TEXTS, TEXTS)
def test_against_rouge_score(summary, reference):
    expected = ORACLE.score(reference, summary)["rougeL"]
    found = rouge_l(rouge_tokens(summary), rouge_tokens(reference))
    assert found == pytest.approx((expected.precision, expected.recall, expected.fmeasure))


@given(st.text(), st.text())
def test_range_symmetry_and_gold(one, other):
    mine, theirs = rouge_tokens(one), rouge_tokens(other)
    assert 0 <= rouge_l(mine, theirs).f <= 1
    assert rouge_l(mine, theirs).f == pytest.approx(rouge_l(theirs, mine).f)
    assert not mine or rouge_l(mine, mine).f == 1


def test_the_reasoning_does_not_count():
    summary = "The cat sat on the mat while the dog ran after twelve mice in the yard"
    thought = "Let me think about what the document says here. " * 200
    assert score("golongrl_summary", f"{thought}</think>[Answer]\n{summary}", summary).value == 1
    published = score(
        "golongrl_summary", f"{thought}</think>{summary}", summary, options=RewardOptions(paper_exact=True)
    )
    assert published.value < 0.9


@pytest.mark.parametrize("text", [" ".join(f"word{i % 700}" for i in range(1500)), "今天天气很好" * 250, "a" * 1500])
def test_long_identical_texts_are_identical(text):
    """The package `rouge` recurses here, which the released code scores 0."""
    assert score("golongrl_summary", f"x</think>[Answer]\n{text}", text).value == 1


@pytest.mark.parametrize(
    "alphabet", ["abcdefghij klmnop qrstu vwxyz", "今天天气很好我们去公园玩他说不行北京是中国的首都"]
)
def test_fifty_thousand_characters_are_quick(alphabet):
    mine = "".join(alphabet[i * i % 101 % len(alphabet)] for i in range(50_000))
    theirs = "".join(alphabet[i * i % 97 % len(alphabet)] for i in range(50_000))
    started = time.perf_counter()
    assert 0 < score("golongrl_summary", f"x</think>{mine}", theirs).value < 1
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    "gold", ["", "...", [], ["a", "?"], None, {"doc_ids": [], "golden_label": "", "summary": "English"}]
)
def test_a_row_without_a_reference_is_the_rows_fault(gold):
    result = score("golongrl_summary", "x</think>a", gold)
    assert (result.status, result.value) == ("scorer_error", 0)
    assert "ground_truth" in result.reason
