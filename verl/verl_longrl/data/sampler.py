"""Choose the order in which rows of several tasks are drawn: evenly mixed, by weight, short prompts first.

Shuffled rows of a rare task are not spread evenly: GoLongRL's rarest tasks are less than one row in a hundred, so most
batches of 128 have none of them or two. Here each task's rows are spread evenly, in random order, and every row is
drawn once per epoch. A weight draws a task's rows more or less often than that.

The order follows from the seed alone, so a checkpoint stores one number: the position in it.
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
        """Whether the order differs from verl's."""
        return self.balanced or bool(self.weights) or bool(self.phases)


class TaskSampler:
    """Yields row numbers, epoch by epoch; an epoch has as many draws as there are rows. Stateful, for torchdata.

    Args:
        tasks: the task of each of N rows.
        lengths: (N,) prompt tokens of each row.

    Raises:
        ValueError: a weight for a task that no row has, or a phase without a row to draw.
    """

    def __init__(self, tasks: Sequence[str], lengths: Sequence[int], options: MixOptions, seed: int):
        self.options, self.seed = options, seed
        self.tasks, self.lengths = np.asarray(tasks, dtype=object), np.asarray(lengths)
        if unknown := sorted(set(options.weights) - set(tasks)):
            known = ", ".join(sorted(set(tasks)))
            raise ValueError(f"mix.weights: no row has the task {', '.join(unknown)}. Fix: use some of {known}")
        self._phases = [
            self._streams_of_phase(number, phase) for number, phase in enumerate(options.phases or (Phase(),))
        ]
        self.position = 0

    def __len__(self) -> int:
        return len(self.tasks)

    def __iter__(self) -> Iterator[int]:
        """The rest of the current epoch, or the next one."""
        # With 10 rows an epoch is 10 draws. At position 13, after a resume, 7 draws of the second epoch are left.
        end = (self.position // len(self) + 1) * len(self)
        while self.position < end:
            streams, within = self._current_phase()
            # Counted before the yield: a checkpoint that is written while the row is processed must not repeat it.
            self.position += 1
            yield streams.row_at(within)

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.position = state["position"]

    def _current_phase(self) -> tuple[_TaskStreams, int]:
        """The phase of the current position, and the position within it."""
        within = self.position
        for streams, phase in zip(self._phases, self.options.phases or (Phase(),), strict=True):
            if phase.prompts is None or within < phase.prompts:
                return streams, within
            within -= phase.prompts
        # All phases have an end and are over: the last one continues.
        return self._phases[-1], within + (self.options.phases[-1].prompts or 0)

    def _streams_of_phase(self, number: int, phase: Phase) -> _TaskStreams:
        limit = phase.max_prompt_tokens
        fits = np.full(len(self), True) if limit is None else self.lengths <= limit
        # Sorted, so that the order of tasks, which decides ties, does not depend on the order of rows.
        weights = {task: self.options.weights.get(task, 1.0) for task in sorted(set(self.tasks[fits]))}
        weights = {task: weight for task, weight in weights.items() if weight}
        if not weights:
            raise ValueError(
                f"mix.phases[{number}].max_prompt_tokens = {limit}: no row of a task with a weight above 0 has so few "
                f"prompt tokens (the shortest of all has {self.lengths.min()}). Fix: raise it"
            )
        rows = [np.flatnonzero(fits & (self.tasks == task)) for task in weights]
        # Each phase has a seed of its own, so it does not repeat the order of the one before.
        return _TaskStreams(rows, list(weights.values()), self.seed + number)


class _TaskStreams:
    """One phase: each task's rows round after round, each round in a new order, merged so that tasks are spread evenly.

    The t-th row of a task with share s is due at (t + 1/2) / s, and the row that is due first is drawn first. So when
    as many rows are drawn as the data has, each task has had its share of them, to the row. An example with two tasks,
    A with 3 rows and B with 1, so shares 3/4 and 1/4:

        A due at 0.67, 2.00, 3.33    B due at 2.00    drawn: A, A, B, A
    """

    def __init__(self, rows: Sequence[np.ndarray], weights: Sequence[float], seed: int):
        self.rows, self.seed = rows, seed
        # A weight is per row: 30 rows with weight 1 and 10 rows with weight 3 get equal shares.
        weighted = [len(task_rows) * weight for task_rows, weight in zip(rows, weights, strict=True)]
        total = sum(weighted)
        self._shares = [part / total for part in weighted]
        self._orders: dict[int, tuple[int, np.ndarray]] = {}
        self._restart()

    def _restart(self) -> None:
        self._position, self._drawn = 0, [0] * len(self.rows)
        # A heap of (time at which the next row is due, task). A tie goes to the task that comes first.
        self._due = [(0.5 / share, task) for task, share in enumerate(self._shares)]
        heapq.heapify(self._due)

    def row_at(self, position: int) -> int:
        """The row at a position; cheap for positions in ascending order."""
        # After a resume the draws before this position are repeated without being used; only a step backwards begins
        # again.
        if position < self._position:
            self._restart()
        while self._position < position:
            self._draw()
        return self._row(*self._draw())

    def _draw(self) -> tuple[int, int]:
        """Draw from the task that is due. Returns the task, and how many of its rows were drawn before."""
        task = self._due[0][1]
        drawn_before = self._drawn[task]
        self._drawn[task] += 1
        self._position += 1
        heapq.heapreplace(self._due, ((drawn_before + 1.5) / self._shares[task], task))
        return task, drawn_before

    def _row(self, task: int, drawn_before: int) -> int:
        # Each round has its own order, and only the current one is in memory.
        round_number, within = divmod(drawn_before, len(self.rows[task]))
        if self._orders.get(task, (-1, None))[0] != round_number:
            order = np.random.default_rng([self.seed, task, round_number]).permutation(self.rows[task])
            self._orders[task] = (round_number, order)
        return int(self._orders[task][1][within])
