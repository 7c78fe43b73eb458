"""What a task generator is: a function from what a prompt shows to a question and its answer, or a reason why none.

    def exhaustive(shown: Shown, draw: random.Random, limits: Limits) -> Made

It is pure: what it makes depends on nothing but its arguments. Variants of a task are functions of the same kind; the
first of them, in random order, that has something to ask is the one that asks.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from data_gen.multitask.visible_text import Shown

PAIRS = 400
"""Pairs of words that are tried until one fits."""


class Limits(NamedTuple):
    """The least and the most that an answer lists or counts."""

    least: int = 3
    most: int = 20


class Made(NamedTuple):
    """A question about what is shown, and its answer.

    kind: the variant. answer_as: how the prompt says to answer. gold: as the row's ground truth. neighbour: a wrong
    answer of the same form, close to the right one. numbered: whether the passages are shown with their numbers."""

    kind: str
    question: str
    answer_as: str
    gold: Any
    neighbour: Any
    numbered: bool = True


class Unsuited(ValueError):
    """The text has nothing that the task could ask; the message is a reason to count it by."""


Generator = Callable[[Shown, random.Random, Limits], Made]


def first_of(variants: Sequence[Generator], shown: Shown, draw: random.Random, limits: Limits) -> Made:
    """What the first of the variants makes, in random order, that makes anything. Raises Unsuited, of the last one."""
    order = draw.sample(variants, len(variants))
    for variant in order[:-1]:
        try:
            return variant(shown, draw, limits)
        except Unsuited:
            continue
    return order[-1](shown, draw, limits)


def listed(words: Sequence[str]) -> str:
    """Words for a sentence: one, two and three."""
    quoted = [f'"{word}"' for word in words]
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}" if len(quoted) > 1 else quoted[0]


def swapped(items: Sequence[str], draw: random.Random) -> list[str]:
    """The items with two neighbours exchanged."""
    wrong, at = list(items), draw.randrange(len(items) - 1)
    wrong[at], wrong[at + 1] = wrong[at + 1], wrong[at]
    return wrong
