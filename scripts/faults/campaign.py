"""A reference run, then faults, each on a run of its own: drawn by seed until the time is over, or those asked for."""

import random
import re
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from faults import invariants, poison, replay, world
from faults.kinds import DONE, FAULTS, Fault
from faults.trial import STARTS, Missed, Trial, rows
from recipe.longrl.local_ray import KERNELS, kernels_of_this_user

EXTERNAL = "VERL_USE_EXTERNAL_MODULES"
REFERENCE = "reference"


@dataclass(frozen=True)
class Outcome:
    """What became of a fault. difference: of the weights (`invariants.weights_difference`), None where they are others
    by right or there are none. problems: lines; none is as it must be."""

    name: str
    says: str
    moment: str
    statuses: tuple[int | None, ...]
    seconds: float
    difference: float | None
    problems: tuple[str, ...]


class Campaign:
    """In an empty folder. `begin`, then `play` as often as wanted."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed, self.step_seconds = folder, seed, 1.0
        self.assets, self.kept = world.small_assets(folder / "assets"), folder / "kept_rollouts"
        self.kept.mkdir()
        self.reference = self._trial(REFERENCE, {replay.KEEP: str(self.kept)})

    def begin(self) -> Outcome:
        """The reference run."""
        began = time.monotonic()
        try:
            self.reference.start()
            self.reference.end((DONE,))
            problems = invariants.broken(self.reference, self.reference)
        finally:
            self.reference.close()
        ends = [row["time"] for row in rows(self.reference.output / "metrics.jsonl") if row.get("split") == "train"]
        self.step_seconds = statistics.median([late - early for early, late in pairwise(ends)] or [1.0])
        return _outcome(REFERENCE, "the run that the others are compared with", self.reference, began, None, problems)

    def play(self, fault: Fault) -> Outcome:
        """A run to which a fault happens, until its end, and what is looked at then. Its folder stays if all is not
        well."""
        began, difference = time.monotonic(), None
        trial = self._trial(fault.name, {replay.REPLAY: str(self.kept)})
        try:
            try:
                _to_the_end(fault, trial)
            except Missed as missed:
                trial.problems.append(f"the fault did not happen: {missed}")
            if fault.said and not re.search(fault.said, trial.console):
                trial.problems.append(f"the terminal shows nothing like {fault.said!r}")
            problems = [*trial.problems, *invariants.broken(trial, self.reference, fault.without)]
            if "weights" not in fault.without and trial.statuses and trial.statuses[-1] == DONE:
                difference = invariants.weights_difference(trial, self.reference)
        finally:
            trial.close()
        if not problems:
            shutil.rmtree(trial.folder)
        return _outcome(fault.name, fault.says, trial, began, difference, problems)

    def _trial(self, name: str, environment: dict[str, str]) -> Trial:
        kernels = kernels_of_this_user()  # half a minute's work, for the user's other runs as well
        own = {EXTERNAL: ",".join([replay.__name__, poison.__name__]), KERNELS: str(kernels)}
        folder = self.folder / name
        return Trial(name, folder, self.assets, self.seed, own | environment, self.step_seconds, [kernels])


def _to_the_end(fault: Fault, trial: Trial) -> None:
    if fault.before:
        fault.before(trial)
    trial.overrides += fault.overrides
    trial.start()
    try:
        if fault.when and fault.action:
            fault.when(trial)
            fault.action(trial)
    finally:
        trial.end(fault.ends)
    for action, ends in fault.then:
        action(trial)
        trial.start()
        trial.end(ends)
    while trial.statuses[-1] != DONE and len(trial.starts) < STARTS:
        trial.start()
        trial.end((DONE,))


def _outcome(
    name: str, says: str, trial: Trial, began: float, difference: float | None, problems: Sequence[str]
) -> Outcome:
    seconds = time.monotonic() - began
    return Outcome(name, says, trial.moment, tuple(trial.statuses), seconds, difference, tuple(problems))


def drawn(seed: int, only: Sequence[str] = ()) -> list[Fault]:
    """The faults, or those of these names, in an order that the seed decides. Raises ValueError for unknown names."""
    known = {fault.name: fault for fault in FAULTS}
    if unknown := [name for name in only if name not in known]:
        raise ValueError(f"no fault is called {', '.join(unknown)}; there are {', '.join(known)}")
    faults = [known[name] for name in (only or known)]
    random.Random(seed).shuffle(faults)
    return faults
