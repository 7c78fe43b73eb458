"""GoLongRL's tasks as a whole: every name resolves, released rows score as our own, the gate, and the failures."""

import asyncio

import numpy as np
import pytest
from verl_longrl.rewards import METRIC_KEYS, RewardOptions, resolve, score, score_async
from verl_longrl.rewards.tasks.golongrl import LONGBENCH_PRO, TASKS, task_name

PUBLISHED = RewardOptions(paper_exact=True)
A = "x</think>[Answer]\n"
RIGHT = {  # task -> a right response (as published too), our ground truth, the released one
    "golongrl_retrieval": ("x</think>42", "42", {"golden_label": "42"}),
    "golongrl_qa": (A + "B", "B", {"doc_ids": ["B"]}),
    "golongrl_choice": ("x</think>The correct answer is (B)", "B", {"golden_label": "B"}),
    "golongrl_exhaustive": (A + "a\nb", ["a", "b"], {"doc_ids": ["b", "a"]}),
    "golongrl_math": ("x</think>\\boxed{34}", "34", {"golden_label": "34"}),
    "golongrl_table": ('x</think><answer>{"data": [[1]]}</answer>', [[1]], {"golden_label": '{"data": [[1]]}'}),
    "golongrl_matching": (A + "a\nb", "a\nb", {"doc_ids": ["a", "b"]}),
    "golongrl_ranking": (A + "a\nb", ["a", "b"], {"doc_ids": ["a", "b"]}),
    "golongrl_ordering": (A + "a\nb", ["a", "b"], {"doc_ids": ["a", "b"]}),
    "golongrl_summary": ("x</think> the cat sat", "the cat sat", {"doc_ids": ["the cat sat"]}),
}
RELEASED = {
    "EM": "golongrl_retrieval",
    "selection": "golongrl_choice",
    "multitableqa_pretraining": "golongrl_table",
    "math_longcot_math_verify": "golongrl_math",
    "math_longcot_math_verify_aime2024": "golongrl_math",
    "Accuracy": "golongrl_qa",
    "F1_Score": "golongrl_exhaustive",
    "SubEM": "golongrl_matching",
    "NDCG": "golongrl_ranking",
    "Pairwise_Accuracy": "golongrl_ordering",
    "Summary": "golongrl_summary",
}


def released(fields, language="English"):
    return {"doc_ids": [], "golden_label": "", "summary": language} | fields


@pytest.mark.parametrize("task", TASKS)
def test_each_task_is_scored_on_our_rows_and_on_released_ones(task):
    response, own, theirs = RIGHT[task]
    assert resolve(task) is TASKS[task]
    for truth in (own, released(theirs), [released(theirs)], released(theirs, "Chinese")):
        if task == "golongrl_table" and isinstance(truth, list) and isinstance(truth[0], dict):
            continue  # a list of records is a table; the released code does not unwrap it either
        result = score(task, response, truth)
        assert (result.value, result.status) == (1, "ok")
        assert tuple(result.metrics()) == METRIC_KEYS
        assert result.candidate is None


@pytest.mark.parametrize("task", TASKS)
def test_rows_as_parquet_readers_give_them(task):
    response, own, theirs = RIGHT[task]
    arrays = {
        name: np.array(value, dtype=object) if isinstance(value, list) else value for name, value in theirs.items()
    }
    assert score(task, response, released(arrays)).value == 1
    if isinstance(own, list) and task != "golongrl_table":
        assert score(task, response, np.array(own, dtype=object)).value == 1


@pytest.mark.parametrize("task", TASKS)
def test_the_published_gate(task):
    response, _, theirs = RIGHT[task]
    passed = score(task, response, released(theirs), options=PUBLISHED)
    assert (passed.value, passed.status) == (pytest.approx(1, abs=0.2), "ok")  # a summary loses by its reasoning
    for broken in (response.replace("</think>", ""), f"<think><think>{response}", f"</think>{response}"):
        result = score(task, broken, released(theirs), options=PUBLISHED)
        assert (result.value, result.status) == (0, "format_error")
        assert "expected one </think>" in result.reason


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("response", ["", "<think>", "x</think>", "x</think>\n\n"])
@pytest.mark.parametrize("require_think", [False, True])
def test_no_answer_is_a_format_error(task, response, require_think):
    result = score(task, response, RIGHT[task][1], options=RewardOptions(require_think=require_think))
    assert (result.value, result.status, result.parts) == (0, "format_error", {})
    assert result.reason


@pytest.mark.parametrize("task", TASKS)
def test_an_answer_in_the_reasoning_does_not_count(task):
    response, own, _ = RIGHT[task]
    assert score(task, f"{response.replace('</think>', '')}</think>Done.", own).value == 0
    assert score(task, f"<think>{response.replace('</think>', '')}", own).status == "format_error"


@pytest.mark.parametrize(("name", "task"), RELEASED.items())
def test_released_names(name, task):
    assert resolve(name) is TASKS[task]
    assert task_name(name, {}) == task


def test_the_25_tasks_of_longbench_pro():
    assert len(LONGBENCH_PRO) == 25
    for name, task in LONGBENCH_PRO.items():
        response, _, theirs = RIGHT[task]
        for mode in (name, name.partition(" ")[0]):
            assert score("longbench_pro", response, released(theirs), {"reward_mode": mode}).value == 1
            assert task_name("longbench_pro", {"reward_mode": mode}) == task


@pytest.mark.parametrize("mode", ["T3.9 Multi-Doc Integration QA", "T3", "", None])
def test_another_task_is_the_rows_fault(mode):
    result = score("longbench_pro", "x", released({"doc_ids": ["a"]}), {"reward_mode": mode})
    assert result.status == "scorer_error"
    assert "is not one of LongBench Pro's 25 tasks. Fix: write one of them; the nearest is 'T" in result.reason
    assert task_name("longbench_pro", {"reward_mode": mode}) == "longbench_pro"


def test_the_task_of_other_rows():
    assert task_name("EM", {"task": "mine"}) == "mine"
    assert task_name("loongrl_qa", {}) == "loongrl_qa"
    assert task_name("unknown", {}) == "unknown"


@pytest.mark.parametrize("task", TASKS)
def test_a_truncated_response_is_truncated(task):
    result = asyncio.run(score_async(task, "<think>so", RIGHT[task][1], truncated=True))
    assert (result.value, result.status) == (0, "truncated")


def test_a_judge_is_not_asked():
    options = RewardOptions.from_dict({"answer": {"by": "judge"}})
    response, _, theirs = RIGHT["golongrl_retrieval"]
    assert asyncio.run(score_async("EM", response, released(theirs), options=options, judge=object())).value == 1
