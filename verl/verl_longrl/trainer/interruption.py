"""End a run before its last step with a checkpoint, from which the same command resumes.

Two things end a run early without being an error in the run: somebody asks for it (Slurm's time limit, a person), or a
worker dies, for which verl's trainer waits forever or which it drops from the batch without a word. Both are checked
whenever the trainer polls for finished rollouts, at least twice a second, and between steps. The trainer then saves the
state before the step and raises `Interrupted`. Where the run itself has a reason to end, it raises `Stopped`.

To stop a run, create the file `STOP_FILE` in its folder, which all of its machines share: the launcher does so when a
signal arrives (`recipe.longrl.signals`), a person does so with `touch`.
"""

import time
from collections.abc import Callable
from pathlib import Path

from verl_longrl.trainer.actor_health import ActorWatch

STOP_FILE = "stop"
POLL_EVERY_S = 5.0
"""Between two checks of the run's actors and of the file, which may be on a slow file system."""


class Interrupted(RuntimeError):
    """The run ended before its last step; the message says why, and what was saved."""


class Stopped(RuntimeError):
    """The run ended itself, because the same command would fail again; the message says what to change."""


class TooManyFailures(Stopped):
    """Scores failed too often to train on or to believe; raised after a checkpoint was saved."""


class NoSignal(Stopped):
    """Group filtering found too few groups with different rewards; raised after a checkpoint was saved."""


class Broken(Stopped):
    """The metrics say that the weights are broken (`health.py`); raised without saving."""


class ValidationAbandoned(Exception):
    """Raised out of a validation that cannot be finished."""


class Interruptions:
    """Reasons to end the run now. actors: those that the run cannot do without. print_line: prints a line."""

    def __init__(self, stop_file: Path, actors: ActorWatch, print_line: Callable[[str], None]) -> None:
        self.stop_file, self.actors, self.print_line = stop_file, actors, print_line
        self._polled = float("-inf")

    def dead(self, within_s: float) -> str | None:
        """The actors that have died, or None. Waits, because Ray may report a death later than its effects."""
        deadline = time.monotonic() + within_s
        while not (dead := self.actors.poll()[0]) and time.monotonic() < deadline:
            time.sleep(0.2)
        return "; ".join(dead) or None

    def reason(self, failed_rollouts: int = 0, at_once: bool = False) -> str | None:
        """Why the run should end, or None.

        failed_rollouts: groups of rollouts that have failed, most likely because of a death. Checks at most every
        `POLL_EVERY_S`, unless rollouts failed or `at_once` is set.
        """
        now = time.monotonic()
        if not failed_rollouts and not at_once and now - self._polled < POLL_EVERY_S:
            return None
        self._polled = now
        if self.stop_file.exists():
            # The launcher writes the signal's name into the file; `touch` leaves it empty.
            requested_by = self.stop_file.read_text().strip()
            return f"asked to stop ({requested_by or self.stop_file})"
        dead, restarted = self.actors.poll()
        for line in restarted:
            self.print_line(line)
        if dead:
            return "; ".join(dead)
        if failed_rollouts:
            return f"the rollouts of {failed_rollouts} prompts failed; train.log has their errors"
        return None
