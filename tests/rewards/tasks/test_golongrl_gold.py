"""Validation and scorers agree about a ground truth: it passes if and only if it can be scored."""

import json

import pytest
from verl_longrl.rewards import GoldError, Score, check_gold, registry, score, scorer
from verl_longrl.rewards.tasks.golongrl import LONGBENCH_PRO, TASKS

GOLD_ONLY = ("loongrl_qa", "loongrl_keychain", "loongrl_retrieval", "loongrl_choice", "math", *TASKS)
TABLE = {"columns": ["a"], "data": [[None], [1]]}
TRUTHS = (
    *("", " ", "?!", "B", "(B)", "A or B", "Paris", "a\nb", "a\na", "\n", "3", "{", "1/2", "The correct answer is (C)"),
    *([], [""], ["a"], ["a", "b"], ["a", "A"], ["B", "b"], ["?"], [["a"]], [None], [1, 2.5], [[1], [None]]),
    *(json.dumps(TABLE), TABLE, {"data": []}, {"columns": ["a"]}, [{"a": None}], "[1]", "[[1]]", "null"),
    *({}, {"city": "Paris"}, {"doc_ids": None, "golden_label": None}, {"doc_ids": ["a", "b"]}, {"golden_label": "B"}),
    *({"doc_ids": [""], "golden_label": " ", "summary": "English"}, {"golden_label": json.dumps(TABLE)}),
    *([{"doc_ids": ["a"], "golden_label": ""}], {"doc_ids": [["a"]]}, {"doc_ids": 3}, {"doc_ids": "B"}, 7, None, True),
)  # fmt: skip
RESPONSES = ("x</think>\\boxed{B}", 'x</think><answer>{"data": [[1]]}</answer>', "x</think>The correct answer is (B)")


@pytest.mark.parametrize("task", GOLD_ONLY)
def test_a_ground_truth_passes_if_and_only_if_it_can_be_scored(task):
    for truth in TRUTHS:
        results = [score(task, response, truth) for response in RESPONSES]
        said = {result.reason.removeprefix("GoldError: ") for result in results if result.status == "scorer_error"}
        assert said == ({refusal} if (refusal := refused(task, truth)) else set()), truth


def test_every_task_has_good_and_bad_truths():
    for task in GOLD_ONLY:
        assert 3 <= sum(not refused(task, truth) for truth in TRUTHS) <= len(TRUTHS) - 10


def refused(task, truth, extra_info=None):
    """The problem with a ground truth, "" if there is none."""
    try:
        check_gold(task, truth, extra_info or {})
    except GoldError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", LONGBENCH_PRO)
def test_rows_of_longbench_pro_are_read_as_their_task(name):
    for truth in TRUTHS:
        assert refused("longbench_pro", truth, {"reward_mode": name}) == refused(LONGBENCH_PRO[name], truth)


def test_an_unknown_task_of_longbench_pro_is_found_in_its_column():
    with pytest.raises(GoldError, match=r"extra_info.reward_mode = 'T3.9': .*the nearest is 'T3") as caught:
        check_gold("longbench_pro", {"doc_ids": ["a"]}, {"reward_mode": "T3.9"})
    assert (caught.value.column, caught.value.value) == ("extra_info.reward_mode", "T3.9")


def test_a_users_scorer_can_register_a_reader(monkeypatch):
    for table in ("_names", "_readers"):
        monkeypatch.setattr(registry, table, dict(getattr(registry, table)))
    scorer("t_says", gold=lambda truth, extra_info: extra_info["unit"] + truth)(lambda *_: Score(1.0))
    scorer("t_silent")(lambda *_: Score(0.0))
    check_gold("t_says", "5", {"unit": "km"})
    check_gold("t_silent", 5, {})
    with pytest.raises(TypeError):
        check_gold("t_says", 5, {"unit": "km"})
    with pytest.raises(LookupError, match="data_source = 't_other': no scorer has this name"):
        check_gold("t_other", 5, {})
    scorer("t_says", replace=True)(lambda *_: Score(0.5))  # what replaces a scorer does not inherit how that one reads
    check_gold("t_says", 5, {})
