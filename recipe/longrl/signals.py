"""SIGTERM and SIGUSR1 ask a run to save a checkpoint and end; a second one ends it at once.

Slurm sends the first ahead of a job's time limit, and schedulers, Kubernetes and `kill` the second. The trainer is
another process, perhaps on another machine, so what reaches it is a file in the run's folder, which it looks for
(`verl_longrl.trainer.interruption`).
"""

import os
import signal
import sys
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

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop_file.exists():
            sys.exit(128 + number)
        name = signal.Signals(number).name
        stop_file.write_text(name)
        line = f"{name}: the run will save a checkpoint and end (once more: at once)\n"
        os.write(2, line.encode())  # print is not to be used here: it may have been interrupted itself

    for number in SIGNALS:
        signal.signal(number, on_signal)
