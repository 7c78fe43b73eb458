"""Conditions that must hold of a run at its end, whatever happened to it before.

Each invariant is a function (trial, reference) that yields a line for every violation. reference: the same run,
undisturbed.
"""

import json
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from verl_longrl.trainer import checkpoints
from verl_longrl.trainer.recorded_run import RecordedRun

from faults import small_run
from faults.trial import MAX_STARTS, USER_FILE_TEXT, USER_FILES, Trial

Invariant = Callable[[Trial, Trial], Iterator[str]]

MAX_DIFFERENCE = 0.02
"""Of the final weights, relative to their change by training. Undisturbed runs differ by 0.002, because rows are not
always in the same order; one step more or less makes a difference of at least 0.1."""
INVARIANTS: dict[str, Invariant] = {}


def invariant(function: Invariant) -> Invariant:
    INVARIANTS[function.__name__] = function
    return function


@invariant
def ended(trial: Trial, reference: Trial) -> Iterator[str]:
    """The command ended with 0 at last, and every start with an allowed status."""
    for number, start in enumerate(trial.starts, 1):
        if start.status not in start.allowed_statuses:
            expected = " or ".join(map(str, sorted(start.allowed_statuses)))
            yield f"start {number} ended with {start.status}, expected {expected}"
    if trial.statuses[-1] != 0:
        yield f"not complete after {len(trial.starts)} of {MAX_STARTS} starts"


@invariant
def console(trial: Trial, reference: Trial) -> Iterator[str]:
    """The console shows no traceback."""
    for file in sorted(trial.folder.glob("console-*.txt")):
        lines = file.read_text(errors="replace").splitlines()
        for number, line in enumerate(lines):
            if "Traceback (most recent call last)" in line:
                yield f"{file.name}, line {number + 1}: a traceback of {_exception_line(lines[number:])}"
                break


def _exception_line(lines: list[str]) -> str:
    """The line after the frames of a traceback."""
    return next((line for line in lines[1:] if line and not line.startswith((" ", "\t"))), "")[:200]


@invariant
def metrics(trial: Trial, reference: Trial) -> Iterator[str]:
    """metrics.jsonl is strict JSON and has every step exactly once."""
    steps = [row["step"] for row in _rows(trial, "metrics.jsonl") if row["split"] == "train"]
    if steps != list(range(1, small_run.STEPS + 1)):
        yield f"metrics.jsonl has the steps {steps}"


@invariant
def rollouts(trial: Trial, reference: Trial) -> Iterator[str]:
    """Every step has all rollouts, which the index has, too, and their prompts are stored."""
    run = RecordedRun(trial.output)
    run.index.update()
    run.prompts.update()
    recorded = {prompt for prompt in run.prompts if run.prompts.text(prompt) is not None}
    for step in range(1, small_run.STEPS + 1):
        rows = list(_rows(trial, f"rollouts/train/{step}.jsonl"))
        if len(rows) != small_run.PROMPTS * small_run.ROLLOUTS:
            yield f"step {step} has {len(rows)} rollouts"
        if unknown := {row["prompt"] for row in rows} - recorded:
            yield f"step {step} has prompts whose texts are not stored: {', '.join(sorted(unknown))}"
        if (indexed := [run.rollout(row) for row in run.index.find("train", step)]) != rows:
            yield f"the index has {len(indexed)} rollouts of step {step}, or others than its file"


@invariant
def order(trial: Trial, reference: Trial) -> Iterator[str]:
    """Every step has the prompts and responses of the reference."""
    for step in range(1, small_run.STEPS + 1):
        if _prompts_and_responses(trial, step) != _prompts_and_responses(reference, step):
            yield f"step {step} has different prompts or responses than the reference"


def _prompts_and_responses(trial: Trial, step: int) -> Counter[tuple[str, str]]:
    rows = _rows(trial, f"rollouts/train/{step}.jsonl")
    return Counter((row["prompt"], row["response"]) for row in rows)


@invariant
def weights(trial: Trial, reference: Trial) -> Iterator[str]:
    """The final weights are those of the reference."""
    difference = weights_difference(trial, reference)
    if not difference <= MAX_DIFFERENCE:
        yield f"the weights differ by {difference:.2g} of their change by training, expected at most {MAX_DIFFERENCE:g}"


def weights_difference(trial: Trial, reference: Trial) -> float:
    """|weights - reference| / |reference - initial|, over all exported weights."""
    exports = [run.output / "export" for run in (trial, reference)]
    weights, expected, initial = (_load_weights(folder) for folder in (*exports, reference.assets / "model"))
    change = torch.linalg.vector_norm(expected - initial).item()
    return torch.linalg.vector_norm(weights - expected).item() / change


def _load_weights(folder: Path) -> torch.Tensor:
    tensors = load_file(folder / "model.safetensors")
    return torch.cat([tensors[name].double().flatten() for name in sorted(tensors)])


@invariant
def checkpoint(trial: Trial, reference: Trial) -> Iterator[str]:
    """The newest checkpoint is the last step's, complete, undamaged and named by the tracker; old ones are removed."""
    root = trial.checkpoints
    newest, skipped = checkpoints.newest_whole(root)
    if newest is None or checkpoints.step_of(newest) != small_run.STEPS:
        yield f"the newest complete checkpoint is {newest}; {skipped}"
        return
    for path in newest.rglob("*.pt"):
        if record := _damaged_record(path):
            yield f"{path}: {record} is damaged"
    tracker = root / checkpoints.TRACKER
    if tracker.read_text().strip() != str(small_run.STEPS):
        yield f"{tracker} says {tracker.read_text()!r}"
    if len(kept := trial.complete_checkpoints()) > small_run.CHECKPOINTS_KEPT:
        yield f"{len(kept)} checkpoints are kept, expected {small_run.CHECKPOINTS_KEPT}"


def _damaged_record(path: Path) -> str | None:
    """The first record with a wrong checksum in a file of torch.save, or None."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip()
    except (zipfile.BadZipFile, OSError) as error:
        return f"all of it ({error})"


@invariant
def tidy(trial: Trial, reference: Trial) -> Iterator[str]:
    """The run's folder has no partly written files."""
    patterns = (".*", "*.partial", "*.new", "*.tmp", "incomplete.txt")
    for path in sorted({path for pattern in patterns for path in trial.output.rglob(pattern)}):
        yield f"{path.relative_to(trial.folder)} was left behind"


@invariant
def processes(trial: Trial, reference: Trial) -> Iterator[str]:
    """No process is left."""
    for line in trial.wait_until_gone():
        yield f"a process was left behind: {line}"


@invariant
def machine(trial: Trial, reference: Trial) -> Iterator[str]:
    """The temporary folder has only the empty folder of this user's runs, and nothing is left elsewhere."""
    for path in trial.temporary.rglob("*"):
        inside = path.relative_to(trial.temporary).parts
        if not inside[0].startswith("longrl-") or (len(inside) > 1 and inside[1] != CACHE):
            yield f"$TMPDIR/{Path(*inside)} was left behind"
    for start in trial.starts:
        for path in start.monitor.left_behind():
            yield f"{path} was left behind"


CACHE = "torchinductor"
"""A folder that all runs of a user share."""


@invariant
def secret(trial: Trial, reference: Trial) -> Iterator[str]:
    """No key was on a command line or is in a file."""
    for start in trial.starts:
        for name in sorted(start.monitor.exposed):
            yield f"{name} was on a command line"
    for folder in (trial.folder, trial.temporary):
        for path in (path for path in folder.rglob("*") if path.is_file()):
            content = path.read_bytes()
            for name, value in trial.secrets.items():
                if value.encode() in content:
                    yield f"{path} contains {name}"


@invariant
def user_files(trial: Trial, reference: Trial) -> Iterator[str]:
    """The user's files are unchanged."""
    for name in USER_FILES:
        path = trial.folder / name
        if not path.is_file() or path.read_text() != USER_FILE_TEXT:
            yield f"{name} was changed"


@invariant
def ports(trial: Trial, reference: Trial) -> Iterator[str]:
    """No process listened beyond loopback."""
    for start in trial.starts:
        for socket in sorted(start.monitor.reachable):
            yield f"other machines could connect to {socket}"


def find_violations(trial: Trial, reference: Trial, skipped: frozenset[str] = frozenset()) -> list[str]:
    """Violations of all invariants except skipped ones. An invariant that cannot be checked is a violation too."""
    lines = []
    for name, check in INVARIANTS.items():
        if name not in skipped:
            try:
                lines += [f"{name}: {line}" for line in check(trial, reference)]
            except (OSError, ValueError, KeyError, RuntimeError) as error:
                lines.append(f"{name}: {type(error).__name__}: {error}")
    return lines


def _rows(trial: Trial, name: str) -> Iterator[dict[str, Any]]:
    """The rows of a log. Raises ValueError for a line that is not strict JSON, unless the fault inserted such lines."""
    path = trial.output / name
    *lines, incomplete = path.read_bytes().split(b"\n")
    if incomplete:
        raise ValueError(f"{name} ends in the middle of a line")
    for number, line in enumerate(lines, 1):
        try:
            yield json.loads(line.decode(), parse_constant=_reject_constant)
        except ValueError as error:
            if name not in trial.torn:
                raise ValueError(f"{name}, line {number}: {error}") from error


def _reject_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
