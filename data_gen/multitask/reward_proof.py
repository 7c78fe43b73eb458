"""Prove a sample with its own reward: the answer, given as the prompt asks, earns all of it, and the wrong one less."""

from __future__ import annotations

from typing import Any

from verl_longrl.rewards import Score, score

from data_gen.answer_templates import render_response
from data_gen.multitask.computed_tasks import data_source
from data_gen.multitask.computed_tasks.task import TaskSample


def accepted_answers(task: str, gold: Any) -> list[Any]:
    """The answers that a ground truth accepts, each of which earns the full reward alone."""
    return gold if task in ("qa", "summary") and isinstance(gold, list) else [gold]


def score_answer(task: str, answer: Any, gold: Any) -> Score:
    """The score of a response that gives this answer as prompts of the task ask for it."""
    return score(data_source(task), render_response(data_source(task), answer), gold)


def is_proven(task: str, sample: TaskSample) -> bool:
    """Whether each accepted answer earns the full reward, and the neighbour less."""
    right = [score_answer(task, answer, sample.gold) for answer in accepted_answers(task, sample.gold)]
    wrong = score_answer(task, sample.neighbour, sample.gold)
    return all(one.value == 1.0 for one in right) and wrong.status in ("ok", "format_error") and wrong.value < 1.0
