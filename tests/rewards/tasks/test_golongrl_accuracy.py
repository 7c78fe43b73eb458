"""Accuracy: the first line after [Answer] equals the gold answer, repaired and as published."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.reward_cases import PUBLISHED, load_rows
from verl_longrl.rewards import METRIC_KEYS, score


@pytest.mark.parametrize(("kind", "case"), load_rows("golongrl_accuracy"))
def test_table(kind, case):
    response = f"42? B?</think>[Answer]\n{case['text']}"
    result = score("golongrl_qa", response, case["gold"])
    assert result.value == (kind == "correct")
    assert result.status == ("format_error" if kind == "malformed" else "ok")
    assert bool(result.reason) == (kind == "malformed")
    assert result.parts == ({} if kind == "malformed" else {"answer": result.value, "format": 1.0})
    assert tuple(result.metrics()) == METRIC_KEYS
    assert score("golongrl_qa", response, case["gold"], options=PUBLISHED).value == case.get("published", False)


@settings(deadline=None)
@given(st.sampled_from("ABCD"), st.lists(st.sampled_from(["A", "B", "C", "(D)", "/", "or", ","]), max_size=4))
def test_one_line_has_one_letter(gold, pieces):
    right = [letter for letter in "ABCD" if score("golongrl_qa", f"[Answer]\n{' '.join(pieces) or '-'}", letter).value]
    assert len(right) <= 1
