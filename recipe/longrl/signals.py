"""SIGTERM and SIGUSR1 ask a run to save a checkpoint and end; a second one ends it at once.

Slurm sends the first ahead of a job's time limit, and schedulers, Kubernetes and `kill` the second. The trainer is
another process, perhaps on another machine, so what reaches it is a file in the run's folder, which it looks for
(`verl_longrl.trainer.interruption`). Once the training has ended there is nothing to save: each signal ends at once.
"""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


@dataclass(frozen=True)
class Stoppable:
    """A task runner's Ray class for `run_ppo`, which asks for an instance as soon as Ray is up: the first moment at
    which signals can be handled, for `ray.init` sets a handler of its own that ends the process."""

    runner: Any
    stop_file: Path

    def options(self, **options: Any) -> "Stoppable":
        return Stoppable(self.runner.options(**options), self.stop_file)

    def remote(self) -> Any:
        handle(self.stop_file)
        return self.runner.remote()


def handle(stop_file: Path) -> None:
    """From now on, the first signal makes `stop_file` (its text names the signal), a second one exits."""
    asked = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        name = signal.Signals(number).name
        if asked:
            sys.exit(128 + number)
        try:
            stop_file.write_text(name)
        except OSError as error:
            _say(f"{name}: ending at once, for the trainer cannot be asked to save ({error})")
            sys.exit(128 + number)
        asked = True
        _say(f"{name}: the run will save a checkpoint and end (once more: at once)")

    _on_signals(on_signal)


def end_at_once() -> None:
    """From now on, each signal exits, after cleaning up."""
    _on_signals(lambda number, frame: sys.exit(128 + number))


def _on_signals(handler: Callable[[int, FrameType | None], Any]) -> None:
    for number in SIGNALS:
        signal.signal(number, handler)


def _say(line: str) -> None:
    os.write(2, f"{line}\n".encode())  # print is not to be used in a handler: it may have been interrupted itself
