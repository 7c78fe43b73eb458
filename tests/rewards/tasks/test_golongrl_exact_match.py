"""EM: the bare answer equals the gold answer, repaired and as published."""

import pytest
from support.reward_cases import PUBLISHED, load_rows
from verl_longrl.rewards import METRIC_KEYS, RewardOptions, score


@pytest.mark.parametrize(("kind", "case"), load_rows("golongrl_exact_match"))
def test_table(kind, case):
    response = f"42? B?</think>{case['text']}"
    result = score("golongrl_retrieval", response, case["gold"])
    assert result.value == (kind == "correct")
    assert result.status == ("format_error" if kind == "malformed" else "ok")
    assert bool(result.reason) == (kind == "malformed")
    assert result.parts == ({} if kind == "malformed" else {"answer": result.value, "format": 1.0})
    assert tuple(result.metrics()) == METRIC_KEYS
    assert score("golongrl_retrieval", response, case["gold"], options=PUBLISHED).value == case.get("published", False)


def test_a_gold_text_of_any_length():
    passage = "It was the best of times, it was the worst of times.\n" * 1000
    assert score("golongrl_retrieval", f"x</think>{passage}", passage).value == 1
    assert score("golongrl_retrieval", f"x</think>{passage}More.", passage).value == 0


def test_answer_options_are_not_for_these():
    options = RewardOptions.from_dict({"answer": {"mode": "contain", "by": "judge"}})
    result = score("golongrl_retrieval", "The capital is Paris", "Paris", options=options)
    assert (result.value, result.candidate) == (0, None)


@pytest.mark.parametrize("gold", ["", [], None, {"golden_label": "", "doc_ids": []}, "?!", {"a": 1}])
@pytest.mark.parametrize("paper_exact", [False, True])
def test_a_row_without_an_answer_is_the_rows_fault(gold, paper_exact):
    result = score("golongrl_retrieval", "x</think>42", gold, options=RewardOptions(paper_exact=paper_exact))
    assert (result.status, result.value) == ("scorer_error", 0)
    assert "ground_truth" in result.reason
