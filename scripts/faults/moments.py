"""When a fault happens: each waits for a run to come there, and notes where that was. Drawn from the fault's seed."""

import re
import time
from collections.abc import Callable

from faults import world
from faults.trial import Trial

Moment = Callable[[Trial], None]

LAST = world.STEPS - 2
"""The last step after which a fault may happen: a later one could be too late."""
IN_TIME = world.STEPS - 4
"""The same of what a run is asked for: it takes a second or two until the trainer knows."""
NARROW_S = 0.003
"""Between two looks for what lasts a moment."""


def in_training(first: int = 1, last: int = LAST) -> Moment:
    """Some time in the step after one of these."""

    def wait(trial: Trial) -> None:
        step, delay = trial.draw.randint(first, last), trial.draw.uniform(0, trial.step_seconds)
        trial.until(lambda: step in trial.steps_done(), f"step {step}")
        time.sleep(delay)
        trial.moment = f"{delay:.2f} s after step {step}"

    return wait


def once_there(role: str) -> Moment:
    """In one of five cases in the seconds after a process of this kind has come up, else in training."""
    training = in_training()

    def wait(trial: Trial) -> None:
        if trial.draw.random() > 0.2:
            return training(trial)
        delay = trial.draw.uniform(0, 5)
        trial.until(lambda: trial.last.family.of_role(role), f"a {role}", 0.5)
        time.sleep(delay)
        trial.moment = f"{delay:.2f} s after a {role} had come up"

    return wait


def while_saving(trial: Trial) -> None:
    """While a checkpoint is being written."""
    step = trial.draw.choice(range(world.SAVE_EVERY, world.STEPS, world.SAVE_EVERY))
    folder, delay = trial.checkpoints / f"global_step_{step}", trial.draw.uniform(0, 0.05)
    trial.until(folder.exists, f"the beginning of {folder.name}", NARROW_S)
    time.sleep(delay)
    trial.moment = f"{1000 * delay:.0f} ms after {folder.name} was begun"


def while_exporting(trial: Trial) -> None:
    """While the final weights are being exported."""
    delay = trial.draw.uniform(0, 3)
    trial.until(lambda: any(trial.output.glob(".export*")), "the export", NARROW_S)
    time.sleep(delay)
    trial.moment = f"{delay:.2f} s into the export"


def said(pattern: str) -> Callable[[Trial], bool]:
    """Whether the terminal shows a line like this."""
    return lambda trial: re.search(pattern, trial.console) is not None
