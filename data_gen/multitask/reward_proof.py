"""A sample is proven by its own reward: its answer, written as the prompt asks, earns all of it, and a neighbour does
not."""

from __future__ import annotations

from typing import Any

from verl_longrl.rewards import score

from data_gen import answer_templates
from data_gen.multitask.computed_tasks import data_source
from data_gen.multitask.computed_tasks.task import Made


def response(task: str, answer: Any) -> str:
    """A response that gives this answer as prompts of the task ask for it."""
    return answer_templates.response(data_source(task), answer)


def accepted(task: str, gold: Any) -> list[Any]:
    """The answers that a ground truth accepts, each of which earns the full reward alone."""
    return gold if task in ("qa", "summary") and isinstance(gold, list) else [gold]


def is_proven(task: str, made: Made) -> bool:
    """Whether the reward gives all of itself to each accepted answer, and less to the neighbour."""
    right = [score(data_source(task), response(task, answer), made.gold) for answer in accepted(task, made.gold)]
    wrong = score(data_source(task), response(task, made.neighbour), made.gold)
    return all(found.value == 1.0 for found in right) and wrong.status in ("ok", "format_error") and wrong.value < 1.0
