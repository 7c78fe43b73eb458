"""Stage assign: choose the tasks of each document, so that tasks are balanced over the corpus.

GoLongRL's filtering and assignment (arXiv 2605.19577, pipeline, phase 2). Documents choose in a random order that
depends on their ids and the seed, those that suit few tasks first. Of the tasks that suit it, a document takes the one
with the fewest documents so far in relation to its weight; if several have equally few, the one that suits the fewest
documents. It repeats this until it has `per_document` tasks. So rare tasks get every document that suits them, as long
as they need more, and common tasks share the rest. A document that suits fewer tasks than it takes gets them in turn,
several times.
"""

from __future__ import annotations

import random
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import field
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from verl_longrl.data.progress import Advance
from verl_longrl.options import OptionError, Options

from data_gen.config import PipelineConfig
from data_gen.multitask.computed_tasks import ABILITIES
from data_gen.pipeline import WholeStage
from data_gen.store import Row, Store
from data_gen.text import derive_seed

Rules = dict[str, dict[str, tuple[str, ...]]]
"""Task -> field of the document -> accepted values; see AssignOptions."""


@dataclass(frozen=True)
class AssignOptions(Options):
    """Options of stages pool and assign."""

    per_document: PositiveInt = 4
    """Most tasks of a document."""
    weights: dict[str, PositiveFloat] = field(default_factory=dict)
    """Task -> its number of samples in relation to the other tasks; 1 for tasks that are not named."""
    pools: Rules = field(default_factory=dict)
    """Rules, task -> field of the document -> values, such as {table: {meta.category: [finance]}}. A document that
    meets all conditions of a rule goes only to the pools of such rules."""

    def __post_init__(self) -> None:
        for key, by_task in (("weights", self.weights), ("pools", self.pools)):
            if unknown := sorted(set(by_task) - set(ABILITIES)):
                raise OptionError(key, unknown, "unknown tasks", f"use some of {', '.join(ABILITIES)}")


class AssignStage(WholeStage):
    """Row: `tasks`, those of the document; `spare`, the other tasks that suit it, those with the greatest need
    first."""

    name = "assign"
    summary = "give each document some of them, balanced over all documents."
    blocks: ClassVar = {"assign": AssignOptions}
    after = ("pool",)

    def __init__(self, options: AssignOptions, seed: int):
        self.options, self.seed = options, seed

    @classmethod
    def from_config(cls, config: PipelineConfig, inputs: list[str]) -> Self:
        return cls(config.block(AssignOptions), config.seed)

    def settings(self) -> dict[str, Any]:
        options = {f"assign.{key}": getattr(self.options, key) for key in ("per_document", "weights")}
        return {"seed": self.seed, **options}

    def make(self, store: Store, advance: Advance) -> Counter[str]:
        # Eight bytes per document: its suitable tasks as bits, and the key of its place in the order.
        suitable, keys = array("I"), array("I")
        for part in store.parts("pool"):
            for row in _kept_rows(store, part):
                suitable.append(sum(1 << list(ABILITIES).index(task) for task in row["pools"]))
                keys.append(derive_seed(self.seed, "assign", row["id"]))
        tasks_of_documents = assign_tasks(suitable, keys, self.options)
        counts: Counter[str] = Counter()
        for part in store.parts("pool"):
            counts += store.write(self.name, part, self._rows(store, part, tasks_of_documents))
            advance()
        return counts

    def _rows(self, store: Store, part: str, tasks_of_documents: Iterator[tuple[str, ...]]) -> Iterator[Row]:
        # The iterator continues with the next part's documents, hence no strict=True.
        for row, order in zip(_kept_rows(store, part), tasks_of_documents):  # noqa: B905
            tasks, spare = list(order[: self.options.per_document]), list(order[self.options.per_document :])
            yield {"id": row["id"], "tasks": tasks, "spare": spare, "counts": Counter(tasks)}


def assign_tasks(suitable: array[int], keys: array[int], options: AssignOptions) -> Iterator[tuple[str, ...]]:
    """For each document, in order, its tasks (`per_document`), then the other tasks that suit it, by need.

    Args:
        suitable: for each document the tasks that suit it, one bit for each in the order of ABILITIES.
        keys: random numbers that decide the order in which documents choose.
    """
    names = list(ABILITIES)
    weights = [float(options.weights.get(task, 1)) for task in names]
    bits = np.asarray(suitable, dtype=np.uint32)
    documents_of = [int((bits >> task & 1).sum()) for task in range(len(names))]
    assigned = [0] * len(names)
    # Millions of documents share a few hundred different results, so equal tuples are stored once.
    interned: dict[tuple[int, ...], tuple[str, ...]] = {}
    results: list[tuple[str, ...]] = [()] * len(bits)

    def need(task: int) -> tuple[float, float]:
        """The lower, the more documents the task needs; rare tasks win ties."""
        return assigned[task] / weights[task], documents_of[task] / weights[task]

    # lexsort sorts by its last key first: by the number of suitable tasks, then in random order.
    for place in np.lexsort((np.asarray(keys), np.bitwise_count(bits))):
        tasks = [task for task in range(len(names)) if suitable[place] >> task & 1]
        random.Random(keys[place]).shuffle(tasks)
        order: list[int] = []
        while tasks and len(order) < options.per_document:
            # Each task is taken once before any is taken a second time: with 2 tasks and per_document=4, a b a b.
            turn = len(order) // len(tasks)
            neediest = min((task for task in tasks if order.count(task) == turn), key=need)
            order.append(neediest)
            assigned[neediest] += 1
        order += sorted((task for task in tasks if task not in order), key=need)
        results[place] = interned.setdefault(tuple(order), tuple(names[task] for task in order))
    return iter(results)


def _kept_rows(store: Store, part: str) -> Iterator[Row]:
    return (row for row in store.read("pool", part) if "drop" not in row)
