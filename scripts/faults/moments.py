"""When a fault happens: each function waits for a moment of a run, and records it. The fault's seed decides."""

import re
import time
from collections.abc import Callable

from faults import small_run
from faults.trial import Trial

Moment = Callable[[Trial], None]

LAST = small_run.STEPS - 2
"""The last step after which a fault may happen; later ones could miss the run's end."""
LAST_TO_STOP = small_run.STEPS - 4
"""The same for requests to stop, which reach the trainer after a second or two."""
NARROW_S = 0.003
"""Seconds between two polls for something short."""


def in_training(first: int = 1, last: int = LAST) -> Moment:
    """A random time within the step that follows one of these."""

    def wait(trial: Trial) -> None:
        step, delay = trial.draw.randint(first, last), trial.draw.uniform(0, trial.step_seconds)
        trial.wait_until(lambda: step in trial.steps_done(), f"step {step}")
        time.sleep(delay)
        trial.moment = f"{delay:.2f} s after step {step}"

    return wait


def after_start_of(role: str) -> Moment:
    """Within seconds of the start of a process of this kind in one of five cases, otherwise during training."""
    training = in_training()

    def wait(trial: Trial) -> None:
        if trial.draw.random() > 0.2:
            return training(trial)
        delay = trial.draw.uniform(0, 5)
        trial.wait_until(lambda: trial.last.family.of_role(role), f"a {role}", 0.5)
        time.sleep(delay)
        trial.moment = f"{delay:.2f} s after the start of a {role}"

    return wait


def while_saving(trial: Trial) -> None:
    """While a checkpoint is being written."""
    step = trial.draw.choice(range(small_run.SAVE_EVERY, small_run.STEPS, small_run.SAVE_EVERY))
    folder, delay = trial.checkpoints / f"global_step_{step}", trial.draw.uniform(0, 0.05)
    trial.wait_until(folder.exists, f"the start of {folder.name}", NARROW_S)
    time.sleep(delay)
    trial.moment = f"{1000 * delay:.0f} ms after {folder.name} was started"


def while_exporting(trial: Trial) -> None:
    """While the final weights are being exported."""
    delay = trial.draw.uniform(0, 3)
    trial.wait_until(lambda: any(trial.output.glob(".export*")), "the export", NARROW_S)
    time.sleep(delay)
    trial.moment = f"{delay:.2f} s into the export"


def console_matches(pattern: str) -> Callable[[Trial], bool]:
    """A function that tells whether the console's output matches a pattern."""
    return lambda trial: re.search(pattern, trial.console) is not None
