"""SIGTERM or SIGUSR1 makes a run save a checkpoint and exit; a second signal makes it exit immediately.

Slurm sends SIGUSR1 ahead of a job's time limit; schedulers, Kubernetes and `kill` send SIGTERM. The trainer is another
process, perhaps on another machine, so the signal is passed on as a file in the run's folder, which the trainer polls
(`verl_longrl.trainer.interruption`). After the training there is nothing to save, and any signal exits immediately.
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
class StoppableRunner:
    """A task runner's Ray class for `run_ppo` that installs the signal handlers when it is instantiated.

    `ray.init` installs a handler that ends the process, so ours must come after it. verl instantiates the task runner
    right after `ray.init`.
    """

    runner: Any
    stop_file: Path

    def options(self, **options: Any) -> "StoppableRunner":
        return StoppableRunner(self.runner.options(**options), self.stop_file)

    def remote(self) -> Any:
        save_on_signal(self.stop_file)
        return self.runner.remote()


def save_on_signal(stop_file: Path) -> None:
    """From now on, the first signal creates `stop_file`, with the signal's name in it, and a second one exits."""
    stop_requested = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal stop_requested
        name = signal.Signals(number).name
        if stop_requested:
            sys.exit(128 + number)
        try:
            stop_file.write_text(name)
        except OSError as error:
            _say(f"{name}: exiting now, because the trainer cannot be told to save: {error}")
            sys.exit(128 + number)
        stop_requested = True
        _say(f"{name}: saving a checkpoint, then exiting (send the signal again to exit now)")

    _on_signals(on_signal)


def exit_on_signals() -> None:
    """From now on, each signal exits, running cleanup handlers."""
    _on_signals(lambda number, frame: sys.exit(128 + number))


def _on_signals(handler: Callable[[int, FrameType | None], Any]) -> None:
    for number in SIGNALS:
        signal.signal(number, handler)


def _say(line: str) -> None:
    # print must not be used in a signal handler: it may be what the signal interrupted.
    os.write(2, f"{line}\n".encode())
