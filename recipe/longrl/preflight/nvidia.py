"""What nvidia-smi says, of which every field may be missing: `[N/A]`, `[Not Supported]`, `[Unknown Error]`, a sentence.

Memory is in MiB. What is unknown is None; lines that are no row of fields are kept as they are, to be shown.
"""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from recipe.longrl.preflight import timed_command

CARD, USER = "uuid,name,driver_version,memory.used,memory.total", "pid,process_name,used_memory"
TIMEOUT_S = 30.0  # the first call wakes the driver up, which takes seconds without its persistence daemon
LEAST_DRIVER = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}
"""CUDA's major version -> the oldest Linux driver that runs it (CUDA Toolkit release notes, minor version
compatibility)."""


class NoAnswer(RuntimeError):
    """nvidia-smi cannot be asked; the message says why."""


@dataclass(frozen=True)
class Card:
    """One GPU."""

    id: str
    name: str
    driver: str | None
    used: float | None
    total: float | None


@dataclass(frozen=True)
class Answer:
    """The GPUs, and lines that describe none, such as "Unable to determine the device handle for GPU ..."."""

    cards: list[Card]
    said: list[str]

    @property
    def drivers(self) -> list[str]:
        """Versions of the driver, in words where unknown."""
        return sorted({card.driver or "of a version that nvidia-smi does not say" for card in self.cards})


def ask() -> Answer:
    """All GPUs of the machine, those that CUDA_VISIBLE_DEVICES hides as well. Raises NoAnswer."""
    cards, said = [], []
    for line in _lines("gpu", CARD):
        fields = [field.strip() for field in line.split(", ")]
        if len(fields) < 5:
            said.append(line.strip())
            continue
        id_, *name, driver, used, total = fields
        version = driver if re.match(r"\d+(\.\d+)*$", driver) else None
        cards.append(Card(id_, ", ".join(name), version, _number(used), _number(total)))
    return Answer(cards, said)


def users() -> list[str]:
    """Processes with memory on a GPU, in words; none where nvidia-smi does not tell."""
    try:
        rows = [[field.strip() for field in line.split(", ")] for line in _lines("compute-apps", USER)]
    except NoAnswer:
        return []
    return [
        f"process {pid} {', '.join(name)} ({'memory unknown' if _number(used) is None else used + ' MiB'})"
        for pid, *name, used in (row for row in rows if len(row) >= 3)
    ]


def least_driver(cuda: str | None) -> str | None:
    """The oldest driver for a CUDA version such as torch.version.cuda, "13.0"; None where it is not known."""
    major = re.match(r"\d+", cuda or "")
    return LEAST_DRIVER.get(int(major[0])) if major else None


def too_old(driver: str | None, least: str | None) -> bool:
    """Whether a driver is known to be older than the least."""
    if driver is None or least is None:
        return False
    return [int(part) for part in driver.split(".")] < [int(part) for part in least.split(".")]


def driver_problem(answer: Answer, cuda: str | None) -> str | None:
    """In words, why torch's CUDA cannot run with these GPUs' driver; None if nothing is known against it."""
    least = least_driver(cuda)
    old = sorted({card.driver for card in answer.cards if card.driver is not None and too_old(card.driver, least)})
    if not old:
        return None
    return (
        f"driver {', '.join(old)} is older than {least}, the least for CUDA {cuda}, which the installed torch is built "
        f"for. Fix: install an NVIDIA driver of {(least or '').partition('.')[0]} or later (on a cluster: ask for "
        "it, or for a container with CUDA's forward compatibility)"
    )


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else None


def _lines(what: str, fields: str) -> Iterator[str]:
    command = ["nvidia-smi", f"--query-{what}={fields}", "--format=csv,noheader,nounits"]
    try:
        printed = timed_command.output(command, TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise NoAnswer(f"nvidia-smi did not end within {TIMEOUT_S:.0f} s") from error
    except subprocess.CalledProcessError as error:
        said = " ".join(f"{error.output or ''} {error.stderr or ''}".split())
        raise NoAnswer(f"nvidia-smi ended with status {error.returncode}: {said or 'no message'}") from error
    except OSError as error:
        raise NoAnswer(f"nvidia-smi cannot be started: {type(error).__name__}: {error}") from error
    yield from (line for line in printed.splitlines() if line.strip())
