"""Stage assign: who is asked what, so that over the corpus the tasks come out balanced.

GoLongRL's filtering and assignment (arXiv 2605.19577, pipeline, phase 2). Documents come in a random order that their
ids and the seed decide, those that suit few tasks first. Each takes, of the tasks it suits, the one that has least so
far for its weight, and of equals the one that fewest documents suit; then the next, until it has `per_document`. So
rare tasks get every document that suits them, as far as they need them, and common ones share the rest. A document that
suits fewer tasks than it takes gets them in turn, several times.
"""

from __future__ import annotations

import random
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from verl_longrl.rewards.options import Options, number

from data_gen.multitask.computed_tasks import ABILITIES
from data_gen.multitask.pool import Rules
from data_gen.pipeline import WholeStage
from data_gen.progress import Advance
from data_gen.store import Row, Store
from data_gen.text import derive_seed


@dataclass(frozen=True)
class AssignOptions(Options):
    """per_document: tasks of a document, at most. weights: task -> how many are wanted of it in relation to others (1
    where it is not named). pools: rules, task -> field of the document -> values, such as {table: {meta.category:
    [finance]}}: documents that meet all conditions of a rule go to the pools of such rules only."""

    per_document: int = 4
    weights: dict[str, float] = field(default_factory=dict)
    pools: Rules = field(default_factory=dict)

    def __post_init__(self) -> None:
        number("assign.per_document", self.per_document, 1, whole=True)
        for task, weight in self.weights.items():
            number(f"assign.weights.{task}", weight, 0, open_low=True)
        for key, named in (("weights", self.weights), ("pools", self.pools)):
            if unknown := sorted(set(named) - set(ABILITIES)):
                raise ValueError(f"assign.{key} names {', '.join(unknown)}; tasks are {', '.join(ABILITIES)}")


class Assign(WholeStage):
    """Row: `tasks`, what the document is asked; `spare`, the other tasks that suit it, those that lack most first."""

    name = "assign"
    after = ("pool",)

    def __init__(self, options: AssignOptions, seed: int):
        self.options, self.seed = options, seed

    def settings(self) -> dict[str, Any]:
        options = {f"assign.{key}": getattr(self.options, key) for key in ("per_document", "weights")}
        return {"seed": self.seed, **options}

    def make(self, store: Store, advance: Advance) -> Counter[str]:
        suited, keys = array("I"), array("I")
        for part in store.parts("pool"):
            for row in _kept(store, part):
                suited.append(sum(1 << list(ABILITIES).index(task) for task in row["pools"]))
                keys.append(derive_seed(self.seed, "assign", row["id"]))
        decided = assigned(suited, keys, self.options)
        counts: Counter[str] = Counter()
        for part in store.parts("pool"):
            counts += store.write(self.name, part, self._rows(store, part, decided))
            advance()
        return counts

    def _rows(self, store: Store, part: str, decided: Iterator[tuple[str, ...]]) -> Iterator[Row]:
        for row, order in zip(_kept(store, part), decided):  # noqa: B905  (the rows of this part only)
            tasks, spare = list(order[: self.options.per_document]), list(order[self.options.per_document :])
            yield {"id": row["id"], "tasks": tasks, "spare": spare, "counts": Counter(tasks)}


def assigned(suited: array[int], keys: array[int], options: AssignOptions) -> Iterator[tuple[str, ...]]:
    """For each document, in order, the tasks it is asked (`per_document`), then the others it suits, by need.

    Args:
        suited: the tasks a document suits, one bit for each in the order of ABILITIES.
        keys: random numbers that decide the order in which documents choose.
    """
    names = list(ABILITIES)
    weights = [float(options.weights.get(task, 1)) for task in names]
    bits = np.asarray(suited, dtype=np.uint32)
    rarity = [int((bits >> task & 1).sum()) for task in range(len(names))]
    got = [0] * len(names)
    known: dict[tuple[int, ...], tuple[str, ...]] = {}  # there are few different answers
    decided: list[tuple[str, ...]] = [()] * len(bits)

    def need(task: int) -> tuple[float, float]:
        return got[task] / weights[task], rarity[task] / weights[task]

    for place in np.lexsort((np.asarray(keys), np.bitwise_count(bits))):
        tasks = [task for task in range(len(names)) if suited[place] >> task & 1]
        random.Random(keys[place]).shuffle(tasks)
        order: list[int] = []
        while tasks and len(order) < options.per_document:
            best = min((task for task in tasks if order.count(task) == len(order) // len(tasks)), key=need)
            order.append(best)
            got[best] += 1
        order += sorted((task for task in tasks if task not in order), key=need)
        decided[place] = known.setdefault(tuple(order), tuple(names[task] for task in order))
    return iter(decided)


def _kept(store: Store, part: str) -> Iterator[Row]:
    return (row for row in store.read("pool", part) if "drop" not in row)
