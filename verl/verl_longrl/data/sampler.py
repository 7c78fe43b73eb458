"""The order in which rows of several tasks are trained on: evenly mixed, by weight, short ones first.

Shuffled rows of a rare task come in clumps: GoLongRL's rarest tasks are under one row in a hundred, and most batches of
128 have none or two of them. Here they come evenly, each task's rows in random order, and every row once an epoch. A
weight has a task's rows come more or less often than that, round after round.

Everything follows from the seed, and the position in it is a checkpoint's few numbers.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np
from pydantic import NonNegativeFloat, PositiveInt
from pydantic.dataclasses import dataclass

from verl_longrl.options import OptionError, Options


@dataclass(frozen=True)
class Phase(Options):
    """A part of the training data's order."""

    prompts: PositiveInt | None = None
    """Prompts drawn in this phase, including those that the group filter replaces; null: all that follow."""
    max_prompt_tokens: PositiveInt | None = None
    """Rows with longer prompts are not drawn; null: no limit."""


@dataclass(frozen=True)
class MixOptions(Options):
    """The order in which rows are drawn."""

    balanced: bool = False
    """Mix tasks evenly instead of shuffling all rows."""
    weights: dict[str, NonNegativeFloat] = field(default_factory=dict)
    """How often a task's rows are drawn, relative to the other tasks, such as {golongrl_ordering: 4}; 0 leaves the task
    out. Implies `balanced`."""
    phases: tuple[Phase, ...] = ()
    """Phases in order, such as short prompts before long ones: [{prompts: 5000, max_prompt_tokens: 32768}, {}].
    Implies `balanced`."""

    def __post_init__(self) -> None:
        for number, phase in enumerate(self.phases[:-1]):
            if phase.prompts is None:
                raise OptionError(
                    f"phases[{number}].prompts",
                    None,
                    "this phase has no end, so the phases after it are never reached",
                    "set its number of prompts",
                )

    @property
    def wanted(self) -> bool:
        """Whether the order is other than verl's."""
        return self.balanced or bool(self.weights) or bool(self.phases)


class TaskSampler:
    """Numbers of rows, epoch by epoch; an epoch is as many as there are rows. Stateful, as torchdata has it.

    Args:
        tasks: of each of N rows.
        lengths: (N,) prompt tokens of each.

    Raises:
        ValueError: a weight for a task that no row has, or a phase that no row is for.
    """

    def __init__(self, tasks: Sequence[str], lengths: Sequence[int], options: MixOptions, seed: int):
        self.options, self.seed = options, seed
        self.tasks, self.lengths = np.asarray(tasks, dtype=object), np.asarray(lengths)
        if unknown := sorted(set(options.weights) - set(tasks)):
            known = ", ".join(sorted(set(tasks)))
            raise ValueError(f"mix.weights has {', '.join(unknown)}, and no row is of that task; tasks: {known}")
        self._phases = [self._streams(at, phase) for at, phase in enumerate(options.phases or (Phase(),))]
        self.position = 0

    def __len__(self) -> int:
        return len(self.tasks)

    def __iter__(self) -> Iterator[int]:
        """The rest of the current epoch, or the next one."""
        end = (self.position // len(self) + 1) * len(self)
        while self.position < end:
            phase, within = self._phase()
            self.position += 1
            yield phase.at(within)

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.position = state["position"]

    def _phase(self) -> tuple[_Streams, int]:
        """The phase of the current position, and the position within it."""
        within = self.position
        for streams, phase in zip(self._phases, self.options.phases or (Phase(),), strict=True):
            if phase.prompts is None or within < phase.prompts:
                return streams, within
            within -= phase.prompts
        return self._phases[-1], within + (self.options.phases[-1].prompts or 0)

    def _streams(self, at: int, phase: Phase) -> _Streams:
        most = phase.max_prompt_tokens
        fits = np.full(len(self), True) if most is None else self.lengths <= most
        weights = {task: self.options.weights.get(task, 1.0) for task in sorted(set(self.tasks[fits]))}
        weights = {task: weight for task, weight in weights.items() if weight}
        if not weights:
            raise ValueError(
                f"mix.phases[{at}]: no row of a task with a weight above 0 has at most {most} prompt tokens (the "
                f"shortest of all has {self.lengths.min()}); raise max_prompt_tokens"
            )
        rows = [np.flatnonzero(fits & (self.tasks == task)) for task in weights]
        return _Streams(rows, list(weights.values()), self.seed + at)


class _Streams:
    """One phase: each task's rows round after round, each round in a new order, merged so that tasks come evenly.

    The t-th row of a task with share s is due at (t + 1/2) / s, and whatever is due first comes first. So by the time
    all rows of the data have come, each task has had its share of them, to the row.
    """

    def __init__(self, rows: Sequence[np.ndarray], weights: Sequence[float], seed: int):
        self.rows, self.seed = rows, seed
        every = sum(len(own) * weight for own, weight in zip(rows, weights, strict=True))
        self._shares = [len(own) * weight / every for own, weight in zip(rows, weights, strict=True)]
        self._orders: dict[int, tuple[int, np.ndarray]] = {}
        self._begin()

    def _begin(self) -> None:
        self._position, self._taken = 0, [0] * len(self.rows)
        self._due = [(0.5 / share, task) for task, share in enumerate(self._shares)]
        heapq.heapify(self._due)

    def at(self, position: int) -> int:
        """The row at a position; cheap for positions in order."""
        if position < self._position:
            self._begin()
        while self._position < position:
            self._next()
        return self._row(*self._next())

    def _next(self) -> tuple[int, int]:
        """The task that is due, and how many of its rows have come before."""
        task = self._due[0][1]
        turn = self._taken[task]
        self._taken[task] += 1
        self._position += 1
        heapq.heapreplace(self._due, ((turn + 1.5) / self._shares[task], task))
        return task, turn

    def _row(self, task: int, turn: int) -> int:
        number, within = divmod(turn, len(self.rows[task]))
        if self._orders.get(task, (-1, None))[0] != number:
            order = np.random.default_rng([self.seed, task, number]).permutation(self.rows[task])
            self._orders[task] = (number, order)
        return int(self._orders[task][1][within])
