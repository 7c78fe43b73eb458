"""The interface of a computed task: a function from the visible text to a question and its answer.

    def exhaustive(shown: VisibleText, draw: random.Random, limits: Limits) -> TaskSample

A task function is pure: its sample depends on nothing but its arguments. It raises `NothingToAsk` where the text has
no suitable material. The variants of a task are functions of the same kind; they are tried in random order, and the
first that finds material asks the question.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from data_gen.multitask.visible_text import VisibleText

PAIRS = 400
"""How many pairs of words are tried until one fits."""


class Limits(NamedTuple):
    """The least and the most that an answer lists or counts."""

    least: int = 3
    most: int = 20


class TaskSample(NamedTuple):
    """A question about the visible text, and its answer.

    kind: the variant of the task. answer_as: how the prompt says to answer. gold: the row's ground truth. neighbour: a
    wrong answer of the same form, close to the right one. numbered: whether the prompt numbers the passages."""

    kind: str
    question: str
    answer_as: str
    gold: Any
    neighbour: Any
    numbered: bool = True


class NothingToAsk(ValueError):
    """The text has no material for the task; the message is a reason to count it by, such as few_terms."""


TaskFunction = Callable[[VisibleText, random.Random, Limits], TaskSample]


def first_of(variants: Sequence[TaskFunction], shown: VisibleText, draw: random.Random, limits: Limits) -> TaskSample:
    """The sample of the first variant, in random order, that finds material. Raises NothingToAsk, of the last one."""
    order = draw.sample(variants, len(variants))
    for variant in order[:-1]:
        try:
            return variant(shown, draw, limits)
        except NothingToAsk:
            continue
    return order[-1](shown, draw, limits)


def quoted_list(words: Sequence[str]) -> str:
    """Words in quotes, as a list within a sentence: "one", "two" and "three"."""
    quoted = [f'"{word}"' for word in words]
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}" if len(quoted) > 1 else quoted[0]


def swap_neighbours(items: Sequence[str], draw: random.Random) -> list[str]:
    """The items with two adjacent ones exchanged, at a random place."""
    swapped, at = list(items), draw.randrange(len(items) - 1)
    swapped[at], swapped[at + 1] = swapped[at + 1], swapped[at]
    return swapped
