"""One answer, met exactly: EM and Accuracy, repaired and as published."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from verl_longrl.rewards import METRIC_KEYS, RewardOptions, score

TABLE = yaml.safe_load((Path(__file__).parents[1] / "cases/exact_answers.yaml").read_text())
ROWS = [(task, kind, case) for task, kinds in TABLE.items() for kind, cases in kinds.items() for case in cases]
NAME = {"em": "golongrl_retrieval", "accuracy": "golongrl_qa"}
MARKER = {"em": "", "accuracy": "[Answer]\n"}
PUBLISHED = RewardOptions(paper_exact=True)


@pytest.mark.parametrize(
    ("task", "kind", "case"), ROWS, ids=lambda value: repr(value["text"]) if isinstance(value, dict) else value
)
def test_table(task, kind, case):
    response = f"42? B?</think>{MARKER[task]}{case['text']}"
    result = score(NAME[task], response, case["gold"])
    assert result.value == (kind == "correct")
    assert result.status == ("format_error" if kind == "malformed" else "ok")
    assert bool(result.reason) == (kind == "malformed")
    assert result.parts == ({} if kind == "malformed" else {"answer": result.value, "format": 1.0})
    assert tuple(result.metrics()) == METRIC_KEYS
    assert score(NAME[task], response, case["gold"], options=PUBLISHED).value == case.get("published", False)


@settings(deadline=None)
@given(st.sampled_from("ABCD"), st.lists(st.sampled_from(["A", "B", "C", "(D)", "/", "or", ","]), max_size=4))
def test_one_line_has_one_letter(gold, pieces):
    right = [letter for letter in "ABCD" if score("golongrl_qa", f"[Answer]\n{' '.join(pieces) or '-'}", letter).value]
    assert len(right) <= 1


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
