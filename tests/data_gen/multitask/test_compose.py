"""Prompts fit their budget, what they ask is computed from what they show, and every sample is proven."""

from collections import Counter

import pytest
from support import reference_solver

from data_gen.multitask import compose
from data_gen.multitask.compose import TaskComposeOptions, TaskComposer, passages_of, render_prompt
from data_gen.multitask.computed_tasks import TASKS
from data_gen.multitask.computed_tasks.task import NothingToAsk, TaskSample

pytestmark = pytest.mark.engine


def made_of(sample):
    return TaskSample(neighbour=None, **{name: sample[name] for name in TaskSample._fields if name != "neighbour"})


def answer(sample, passages):
    """What a careful reader answers, a retrieved sentence only if it is the right one."""
    (message,) = render_prompt(passages, made_of(sample))
    if sample["task"] == "retrieval":
        assert reference_solver.is_adjacent(sample["kind"], sample["gold"], message["content"])
        return sample["gold"]
    return reference_solver.solve_prompt((sample["task"], sample["kind"]), message["content"])


@pytest.mark.parametrize("budget", [1500, 3000, 20000])
def test_prompts_are_as_long_as_they_may_be_and_answers_speak_of_what_is_shown(texts, counter, budget):
    options = TaskComposeOptions(max_prompt_tokens=budget, passage_words=40, min_passages=6)
    composer = TaskComposer(options, counter, 0)
    tasks, cut = Counter(), 0
    for number, text in enumerate(texts):
        passages = passages_of(text, options)
        samples, counts = composer.samples(f"document {number}", passages, list(TASKS))
        assert (samples, counts) == composer.samples(f"document {number}", passages, list(TASKS))
        for sample in samples:
            start, end = sample["window"]
            tasks[sample["task"]] += 1
            assert counter.count([render_prompt(passages[start:end], made_of(sample))]) == [sample["prompt_tokens"]]
            assert sample["prompt_tokens"] <= budget
            if end - start < len(passages):
                cut += 1
                assert sample["prompt_tokens"] > 0.6 * budget
            assert answer(sample, passages[start:end]) == sample["gold"]
    assert set(tasks) == set(TASKS)
    assert max(tasks.values()) <= len(texts)
    assert (cut == 0) == (budget == 20000)


def test_assigned_tasks_are_asked_first_then_others_and_no_question_is_asked_twice(texts, counter, monkeypatch):
    options = TaskComposeOptions(max_prompt_tokens=8192, passage_words=40)
    passages = passages_of(texts[0], options)
    composer, assigned = TaskComposer(options, counter, 0), ["ordering", "qa", "table"]
    samples, counts = composer.samples("document", passages, assigned, ["math", "ranking"])
    assert [sample["task"] for sample in samples] == assigned
    assert counts == Counter(assigned)
    assert TaskComposer(options, counter, 1).samples("document", passages, assigned)[0] != samples
    assert composer.samples("document", passages, []) == ([], {})

    samples, counts = composer.samples("document", passages, ["qa", "math"] * 15)
    assert {sample["task"] for sample in samples} == {"qa", "math"}
    assert len({sample["question"] for sample in samples}) == len(samples) > 8
    assert counts["qa"] + counts["math"] == len(samples)
    assert len(samples) == 30 or counts["qa: said_twice"] == counts["math: said_twice"] == 1

    monkeypatch.setitem(compose.TASKS, "qa", nothing)
    samples, counts = composer.samples("document", passages, assigned, ["math", "ranking"])
    assert [sample["task"] for sample in samples] == ["ordering", "table", "math"]
    assert counts == {"ordering": 1, "table": 1, "math": 1, "qa: few_terms": 1}
    samples, _ = composer.samples("document", passages, assigned)
    assert [sample["task"] for sample in samples] == ["ordering", "table", "ordering"]


def nothing(shown, draw, limits):
    raise NothingToAsk("few_terms")


def test_a_sample_that_its_reward_does_not_prove_is_dropped_and_counted(texts, counter, monkeypatch):
    def tie(shown, draw, limits):
        return TaskSample("tie", "Which?", "Say.", ["a", "b"], ["b", "a"])  # F1 does not tell them apart

    def broken(shown, draw, limits):
        return TaskSample("broken", "Which?", "Say.", ["[Answer]"], ["b"])

    monkeypatch.setitem(compose.TASKS, "exhaustive", tie)
    monkeypatch.setitem(compose.TASKS, "matching", broken)
    monkeypatch.setitem(compose.TASKS, "table", nothing)
    options, tasks = TaskComposeOptions(max_prompt_tokens=8192, passage_words=40), ["exhaustive", "matching", "table"]
    samples, counts = TaskComposer(options, counter, 0).samples("document", passages_of(texts[0], options), tasks)
    assert samples == []
    assert counts == {"exhaustive: unscorable": 1, "matching: unscorable": 1, "table: few_terms": 1}


def test_a_question_that_leaves_no_room_is_not_asked(texts, counter, monkeypatch):
    def long(shown, draw, limits):
        return TaskSample("long", "Which? " * 4000, "Say.", "a", "b")

    monkeypatch.setitem(compose.TASKS, "qa", long)
    options = TaskComposeOptions(max_prompt_tokens=2048, passage_words=40)
    made = TaskComposer(options, counter, 0).samples("x", passages_of(texts[0], options), ["qa"])
    assert made == ([], {"qa: no_room": 1})


def test_a_question_of_any_length_has_room_beside_fewer_passages(texts, counter, monkeypatch):
    options = TaskComposeOptions(max_prompt_tokens=4096, passage_words=200, min_passages=4)
    passages = passages_of("\n\n".join(texts[:3]), options)
    composer, shown = TaskComposer(options, counter, 0), set()
    for words in range(0, 700, 10):
        asked = TaskSample("long", f"Which? {'so ' * words}", "Say.", "a", "b")
        monkeypatch.setitem(compose.TASKS, "qa", lambda *arguments, asked=asked: asked)
        (sample,), _ = composer.samples("x", passages, ["qa"])
        assert sample["prompt_tokens"] <= 4096
        shown.add(sample["window"][1] - sample["window"][0])
    assert len(shown) > 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tasks": ("qa", "summary")}, "expected some of retrieval, qa"),
        ({"tasks": ("qa", "qa")}, "each once"),
        ({"most_items": 2}, "compose.most_items = 2: expected at least least_items, 3"),
        ({"max_prompt_tokens": 10}, "compose.max_prompt_tokens = 10"),
    ],
)
def test_wrong_options_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        TaskComposeOptions.from_dict(wrong, "compose.")
