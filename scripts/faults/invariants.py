"""What must hold of a run that has come to its end, whatever happened to it on the way.

Each is a function (trial, reference) that gives a line for everything that is not as it must be. reference: the same
run, undisturbed.
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

from faults import world
from faults.trial import FOREIGN, FOREIGN_TEXT, STARTS, Trial

Invariant = Callable[[Trial, Trial], Iterator[str]]

DIFFERENCE = 0.02
"""Of the weights at the end, over how far training moved them. Undisturbed runs differ by 0.002, for rows are not
always in the same order; a step more, or fewer, makes a tenth and more."""
INVARIANTS: dict[str, Invariant] = {}


def invariant(function: Invariant) -> Invariant:
    INVARIANTS[function.__name__] = function
    return function


@invariant
def ended(trial: Trial, reference: Trial) -> Iterator[str]:
    """The same command came to an end, each start with a status that it may have."""
    for number, start in enumerate(trial.starts, 1):
        if start.status not in start.allowed:
            expected = " or ".join(map(str, sorted(start.allowed)))
            yield f"start {number} ended with {start.status}, expected {expected}"
    if trial.statuses[-1] != 0:
        yield f"not at its end after {len(trial.starts)} starts of {STARTS}"


@invariant
def terminal(trial: Trial, reference: Trial) -> Iterator[str]:
    """No stack trace for people."""
    for console in sorted(trial.folder.glob("console-*.txt")):
        lines = console.read_text(errors="replace").splitlines()
        for number, line in enumerate(lines):
            if "Traceback (most recent call last)" in line:
                yield f"{console.name}, line {number + 1}: a traceback, up to: {_last_of_traceback(lines[number:])}"
                break


def _last_of_traceback(lines: list[str]) -> str:
    """The line after the frames."""
    return next((line for line in lines[1:] if line and not line.startswith((" ", "\t"))), "")[:200]


@invariant
def metrics(trial: Trial, reference: Trial) -> Iterator[str]:
    """Strict JSON with every step exactly once."""
    steps = [row["step"] for row in _rows(trial, "metrics.jsonl") if row["split"] == "train"]
    if steps != list(range(1, world.STEPS + 1)):
        yield f"metrics.jsonl has the steps {steps}"


@invariant
def rollouts(trial: Trial, reference: Trial) -> Iterator[str]:
    """Of every step, all of them, each with a prompt that is on record."""
    known = {row["prompt"] for row in _rows(trial, "rollouts/prompts.jsonl")}
    for step in range(1, world.STEPS + 1):
        rows = list(_rows(trial, f"rollouts/{step}.jsonl"))
        if len(rows) != world.PROMPTS * world.ROLLOUTS:
            yield f"step {step} has {len(rows)} rollouts"
        if unknown := {row["prompt"] for row in rows} - known:
            yield f"step {step} has prompts that are not in prompts.jsonl: {', '.join(sorted(unknown))}"


@invariant
def order(trial: Trial, reference: Trial) -> Iterator[str]:
    """At every step, the prompts and the responses of the reference."""
    for step in range(1, world.STEPS + 1):
        if _asked(trial, step) != _asked(reference, step):
            yield f"step {step} is of other prompts or responses than the reference's"


def _asked(trial: Trial, step: int) -> Counter[tuple[str, str]]:
    rows = _rows(trial, f"rollouts/{step}.jsonl")
    return Counter((row["prompt"], row["response"]) for row in rows)


@invariant
def weights(trial: Trial, reference: Trial) -> Iterator[str]:
    """As the reference's."""
    difference = weights_difference(trial, reference)
    if not difference <= DIFFERENCE:
        yield f"the weights differ by {difference:.2g} of what training changed, expected at most {DIFFERENCE:g}"


def weights_difference(trial: Trial, reference: Trial) -> float:
    """|w - reference| / |reference - first|, over all exported weights."""
    exported = [run.output / "export" for run in (trial, reference)]
    own, its, first = (_weights(folder) for folder in (*exported, reference.assets / "model"))
    moved = torch.linalg.vector_norm(its - first).item()
    return torch.linalg.vector_norm(own - its).item() / moved


def _weights(folder: Path) -> torch.Tensor:
    tensors = load_file(folder / "model.safetensors")
    return torch.cat([tensors[name].double().flatten() for name in sorted(tensors)])


@invariant
def checkpoint(trial: Trial, reference: Trial) -> Iterator[str]:
    """The newest is the last step's, whole, with every byte as it was written, and named by the tracker; and no more
    are kept than asked for."""
    root = trial.checkpoints
    newest, passed_over = checkpoints.newest_whole(root)
    if newest is None or checkpoints.step_of(newest) != world.STEPS:
        yield f"the newest whole checkpoint is {newest}; {passed_over}"
        return
    for path in newest.rglob("*.pt"):
        if record := _damaged_record(path):
            yield f"{path}: {record} is damaged"
    tracker = root / checkpoints.TRACKER
    if tracker.read_text().strip() != str(world.STEPS):
        yield f"{tracker} says {tracker.read_text()!r}"
    if len(whole := trial.whole_checkpoints()) > world.KEPT:
        yield f"{len(whole)} checkpoints are kept, expected {world.KEPT}"


def _damaged_record(path: Path) -> str | None:
    """The first record of a file of torch.save's whose checksum is wrong."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip()
    except (zipfile.BadZipFile, OSError) as error:
        return f"the whole of it ({error})"


@invariant
def tidy(trial: Trial, reference: Trial) -> Iterator[str]:
    """Nothing half-written in the run's folders."""
    patterns = (".*", "*.partial", "*.new", "*.tmp", "incomplete.txt")
    for path in sorted({path for pattern in patterns for path in trial.output.rglob(pattern)}):
        yield f"{path.relative_to(trial.folder)} is left"


@invariant
def processes(trial: Trial, reference: Trial) -> Iterator[str]:
    """None is left."""
    for line in trial.wait_until_gone():
        yield f"a process is left: {line}"


@invariant
def machine(trial: Trial, reference: Trial) -> Iterator[str]:
    """Nothing is left in the temporary folder but the one of this user's runs, without a run in it; nor elsewhere."""
    for path in trial.temporary.rglob("*"):
        inside = path.relative_to(trial.temporary).parts
        if not inside[0].startswith("longrl-") or (len(inside) > 1 and inside[1] != CACHE):
            yield f"$TMPDIR/{Path(*inside)} is left"
    for start in trial.starts:
        for left in start.witness.left_behind():
            yield f"{left} is left"


CACHE = "torchinductor"
"""In the folder of a user's runs, for all of them."""


@invariant
def secret(trial: Trial, reference: Trial) -> Iterator[str]:
    """No key on a command line or in a file."""
    for start in trial.starts:
        for name in sorted(start.witness.exposed):
            yield f"{name} was on a command line"
    for folder in (trial.folder, trial.temporary):
        for path in (path for path in folder.rglob("*") if path.is_file()):
            content = path.read_bytes()
            for name, value in trial.secrets.items():
                if value.encode() in content:
                    yield f"{path} has {name}"


@invariant
def foreign(trial: Trial, reference: Trial) -> Iterator[str]:
    """The user's own files are as they were."""
    for name in FOREIGN:
        path = trial.folder / name
        if not path.is_file() or path.read_text() != FOREIGN_TEXT:
            yield f"{name} was touched"


@invariant
def ports(trial: Trial, reference: Trial) -> Iterator[str]:
    """Nothing answered beyond loopback."""
    for start in trial.starts:
        for socket in sorted(start.witness.reachable):
            yield f"another machine could call {socket}"


def broken(trial: Trial, reference: Trial, without: frozenset[str] = frozenset()) -> list[str]:
    """Every line of every invariant but these; what cannot be looked at is one, too."""
    lines = []
    for name, look in INVARIANTS.items():
        if name not in without:
            try:
                lines += [f"{name}: {line}" for line in look(trial, reference)]
            except (OSError, ValueError, KeyError, RuntimeError) as error:
                lines.append(f"{name}: {type(error).__name__}: {error}")
    return lines


def _rows(trial: Trial, name: str) -> Iterator[dict[str, Any]]:
    """The rows of a log in strict JSON. Raises ValueError, naming the line, for one that is not, unless the fault
    itself put such lines there."""
    path = trial.output / name
    *lines, rest = path.read_bytes().split(b"\n")
    if rest:
        raise ValueError(f"{name} ends in the middle of a line")
    for number, line in enumerate(lines, 1):
        try:
            yield json.loads(line.decode(), parse_constant=_not_json)
        except ValueError as error:
            if name not in trial.torn:
                raise ValueError(f"{name}, line {number}: {error}") from error


def _not_json(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
