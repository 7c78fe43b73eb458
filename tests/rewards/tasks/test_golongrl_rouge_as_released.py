"""The released ROUGE-L: the values of the package `rouge` (1.0.1, with jieba 0.42.1), and its algorithm, slowly."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.reward_cases import load_table
from verl_longrl.rewards import RewardOptions, score
from verl_longrl.rewards.tasks.golongrl_rouge_as_released import released_rouge_l

SENTENCES = st.lists(st.sampled_from("abcde"), min_size=1, max_size=8).map(" ".join)
TEXTS = st.lists(SENTENCES, min_size=1, max_size=4).map(" . ".join)

TABLE = load_table("golongrl_rouge_as_released")


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case["summary"])
def test_the_packages_values(case):
    value = released_rouge_l(case["summary"], case["reference"], chinese=case.get("chinese", False))
    assert value == pytest.approx(case["value"], abs=5e-8)


def table(expected, said):
    lengths = [[0] * (len(said) + 1) for _ in range(len(expected) + 1)]
    for i, mine in enumerate(expected, 1):
        for j, theirs in enumerate(said, 1):
            lengths[i][j] = lengths[i - 1][j - 1] + 1 if mine == theirs else max(lengths[i - 1][j], lengths[i][j - 1])
    return lengths


def traced(expected, said, lengths, i, j):
    if not i or not j:
        return set()
    if expected[i - 1] == said[j - 1]:
        return traced(expected, said, lengths, i - 1, j - 1) | {expected[i - 1]}
    back = (i - 1, j) if lengths[i - 1][j] > lengths[i][j - 1] else (i, j - 1)
    return traced(expected, said, lengths, *back)


@settings(deadline=None)
@given(TEXTS, TEXTS)
def test_against_the_recursion(summary, reference):
    mine, theirs = ([sentence.split() for sentence in text.split(".")] for text in (summary, reference))
    common = set()
    for expected in theirs:
        for said in mine:
            common |= traced(expected, said, table(expected, said), len(expected), len(said))
    precision, recall = (len(common) / len({word for s in side for word in s}) for side in (mine, theirs))
    expected = 2 * precision * recall / (precision + recall + 1e-8)
    assert released_rouge_l(summary, reference, chinese=False) == pytest.approx(expected)


def test_long_texts_do_not_fail():
    text = " ".join(f"word{i}" for i in range(8000))
    assert released_rouge_l(text, text, chinese=False) == pytest.approx(1, abs=1e-7)


def test_the_row_says_which_language():
    row = {"doc_ids": ["今天的天气很好"], "golden_label": ""}
    options = RewardOptions(paper_exact=True)
    response = "x</think>今天 天气 很 好"
    chinese, english = (
        score("longbench_pro", response, row | {"summary": language}, {"reward_mode": "T4.1"}, options=options).value
        for language in ("Chinese", "English")
    )
    assert chinese > english == 0
