"""Run a reference, then faults, each in a separate run: in random order until the time is over, or those requested."""

import random
import re
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from faults import invariants, nan_injection, rollout_replay, small_run
from faults.catalog import DONE, FAULTS, Fault
from faults.trial import MAX_STARTS, FaultMissed, Trial, read_rows
from recipe.longrl.local_ray import KERNELS, kernel_cache_folder

EXTERNAL = "VERL_USE_EXTERNAL_MODULES"
REFERENCE = "reference"


@dataclass(frozen=True)
class Outcome:
    """The result of a fault.

    difference: of the weights (`invariants.weights_difference`); None if they must differ, or do not exist. problems:
    one line for each; empty if everything is as it must be.
    """

    name: str
    description: str
    moment: str
    statuses: tuple[int | None, ...]
    seconds: float
    difference: float | None
    problems: tuple[str, ...]


class Campaign:
    """Runs in an empty folder: `run_reference` first, then `run_fault` for each fault.

    What the runs train on is beside it, for other campaigns too.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed, self.step_seconds = folder, seed, 1.0
        self.assets = small_run.build_assets(folder.parent / "assets")
        self.recorded_rollouts = folder / "recorded_rollouts"
        self.recorded_rollouts.mkdir()
        self.reference = self._trial(REFERENCE, {rollout_replay.RECORD: str(self.recorded_rollouts)})

    def run_reference(self) -> Outcome:
        """Run without a fault."""
        started = time.monotonic()
        try:
            self.reference.start()
            self.reference.end((DONE,))
            problems = invariants.find_violations(self.reference, self.reference)
        finally:
            self.reference.close()
        metrics = read_rows(self.reference.output / "metrics.jsonl")
        ends = [row["time"] for row in metrics if row.get("split") == "train"]
        self.step_seconds = statistics.median([late - early for early, late in pairwise(ends)] or [1.0])
        return _outcome(REFERENCE, "the run that the others are compared with", self.reference, started, None, problems)

    def run_fault(self, fault: Fault) -> Outcome:
        """Run with a fault until the command ends with 0, and check it. The folder is kept if there are problems."""
        started, difference = time.monotonic(), None
        trial = self._trial(fault.name, {rollout_replay.REPLAY: str(self.recorded_rollouts)})
        try:
            try:
                _run_to_the_end(fault, trial)
            except FaultMissed as missed:
                trial.problems.append(f"the fault did not happen: {missed}")
            if fault.console and not re.search(fault.console, trial.console):
                trial.problems.append(f"the console has no match of {fault.console!r}")
            problems = [*trial.problems, *invariants.find_violations(trial, self.reference, fault.skip)]
            if "weights" not in fault.skip and trial.statuses and trial.statuses[-1] == DONE:
                difference = invariants.weights_difference(trial, self.reference)
        finally:
            trial.close()
        if not problems:
            shutil.rmtree(trial.folder)
        return _outcome(fault.name, fault.description, trial, started, difference, problems)

    def _trial(self, name: str, environment: dict[str, str]) -> Trial:
        # Compiled kernels take half a minute to build. The user's runs share them.
        kernels = kernel_cache_folder()
        variables = {EXTERNAL: ",".join([rollout_replay.__name__, nan_injection.__name__]), KERNELS: str(kernels)}
        folder = self.folder / name
        return Trial(name, folder, self.assets, self.seed, variables | environment, self.step_seconds, [kernels])


def _run_to_the_end(fault: Fault, trial: Trial) -> None:
    if fault.before:
        fault.before(trial)
    trial.overrides += fault.overrides
    trial.start()
    try:
        if fault.when and fault.action:
            fault.when(trial)
            fault.action(trial)
    finally:
        trial.end(fault.statuses)
    for action, statuses in fault.then:
        action(trial)
        trial.start()
        trial.end(statuses)
    while trial.statuses[-1] != DONE and len(trial.starts) < MAX_STARTS:
        trial.start()
        trial.end((DONE,))


def _outcome(
    name: str, description: str, trial: Trial, started: float, difference: float | None, problems: Sequence[str]
) -> Outcome:
    seconds = time.monotonic() - started
    return Outcome(name, description, trial.moment, tuple(trial.statuses), seconds, difference, tuple(problems))


def draw_faults(seed: int, only: Sequence[str] = ()) -> list[Fault]:
    """All faults, or those of these names, in a random order. Raises ValueError for unknown names."""
    known = {fault.name: fault for fault in FAULTS}
    if unknown := [name for name in only if name not in known]:
        raise ValueError(f"unknown fault {', '.join(unknown)}; expected one of {', '.join(known)}")
    faults = [known[name] for name in (only or known)]
    random.Random(seed).shuffle(faults)
    return faults
