"""What the multi-task world's warm start teaches: to look everything up, but with little care.

Where something is to be chosen, the teacher chooses well with probability `care`. It follows a path to its next step,
or names a color at random; goes on to the next room, or stops; takes what a place is, or what it was; writes down the
earliest day or rank that is left, or any of those left. So the student finds what a text says, and its answers are in
part right, in each task by another metric. Sampling finds better ones; making them the habit is left to reinforcement
learning.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from recipe.longrl.demo.multitask.dataset import QUESTIONS, bare, facts, items, listing, prompt, question
from recipe.longrl.demo.multitask.world import Document, WorldConfig, documents
from recipe.longrl.demo.warm_start import Lesson


@dataclass(frozen=True)
class Stage:
    """`steps` of `documents_per_step` fresh texts from `world`, with a teacher of this `care`, by task."""

    steps: int
    documents_per_step: int
    world: WorldConfig
    care: Mapping[str, float]


ROUNDS = 3
"""Prompts of each task about a text."""


def lessons(stages: Sequence[Stage], seed: int) -> Iterator[list[Lesson]]:
    """The lessons of every step, on texts drawn for `seed`."""
    rng = random.Random(f"longrl-teacher-{seed}")
    for number, stage in enumerate(stages):
        drawn = documents(stage.world, f"warm-start-{seed}-{number}")
        for _ in range(stage.steps):
            yield [_lesson(rng, document, stage.care) for document in islice(drawn, stage.documents_per_step)]


def _lesson(rng: random.Random, document: Document, care: Mapping[str, float]) -> Lesson:
    asked = [(task, document.paths[at % len(document.paths)]) for at in range(ROUNDS) for task in QUESTIONS]
    return Lesson(
        tuple(prompt(document, question(task, path)) for task, path in asked),
        tuple(teacher(rng, task, document, path, care[task]) for task, path in asked),
    )


def teacher(rng: random.Random, task: str, document: Document, path: Sequence[str], care: float) -> str:
    """One demonstration."""
    if task == "retrieval":
        reached = _steps(rng, len(path), care)
        return bare(path if reached == len(path) else [*path[:reached], rng.choice(document.colors)])
    said = facts(task, document)
    match task:
        case "exhaustive":
            lines = items(said)[: _steps(rng, len(said), care)]
        case "matching":
            lines = items({place: (said if rng.random() < care else document.before)[place] for place in said})
        case _:
            lines = _ordered(rng, items(said), care)
    return listing(question(task, path), lines)


def _steps(rng: random.Random, most: int, care: float) -> int:
    """From 1 to `most`: how far one comes who goes on each time with probability `care`."""
    reached = 1
    while reached < most and rng.random() < care:
        reached += 1
    return reached


def _ordered(rng: random.Random, lines: Sequence[str], care: float) -> list[str]:
    """The lines, each time the first of those left with probability `care`, else any of them."""
    left, order = list(lines), []
    while left:
        order.append(left.pop(0 if rng.random() < care else rng.randrange(len(left))))
    return order
