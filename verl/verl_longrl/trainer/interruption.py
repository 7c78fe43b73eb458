"""A run that must end early ends with a checkpoint, from which the same command goes on.

Two things end a run before its last step without being an error of the run's own: somebody asks for it (Slurm's time
limit, a person), or a worker dies, which verl's trainer either waits for for ever or drops from the batch without
a word. Both are looked for whenever the trainer looks for finished rollouts, at least twice a second, and between
steps; then it saves the state before the step and raises `Interrupted`. What a run ends itself for is `Stopped`.

Who wants a run to stop makes the file `STOP_FILE` in the run's folder, which all of its machines share: the launcher
does so when a signal arrives (`recipe.longrl.signals`), a person with `touch`.
"""

import time
from collections.abc import Callable
from pathlib import Path

from verl_longrl.trainer.actor_health import ActorWatch

STOP_FILE = "stop"
LOOK_EVERY_S = 5.0
"""Between two looks at the actors of the run, and for the file, which may lie on a slow file system."""


class Interrupted(RuntimeError):
    """The run ended before its last step; its message says why, and what was saved."""


class Stopped(RuntimeError):
    """The run ended itself, for the same command would do the same again; its message says what to change."""


class TooManyFailures(Stopped):
    """Scores failed too often to train on or to believe; raised after a checkpoint was saved."""


class NoSignal(Stopped):
    """Group filtering found too few groups with different rewards; raised after a checkpoint was saved."""


class Broken(Stopped):
    """The numbers say that what is trained is broken (`health.py`); raised without saving."""


class ValidationAbandoned(Exception):
    """Raised out of a validation that will not be finished."""


class Interruptions:
    """What should end the run now. actors: those that the run cannot do without. say: prints a line."""

    def __init__(self, stop_file: Path, actors: ActorWatch, say: Callable[[str], None]) -> None:
        self.stop_file, self.actors, self.say = stop_file, actors, say
        self._looked = float("-inf")

    def dead(self, within_s: float) -> str | None:
        """Which actors have died, or None. What came of a death may be seen before the death is: waits for it."""
        deadline = time.monotonic() + within_s
        while not (dead := self.actors.look()[0]) and time.monotonic() < deadline:
            time.sleep(0.2)
        return "; ".join(dead) or None

    def reason(self, failed_rollouts: int = 0, at_once: bool = False) -> str | None:
        """Why the run should end, or None. failed_rollouts: groups of rollouts that have failed, most likely of what is
        dead. Looks no more often than every `LOOK_EVERY_S`, but then, or when told `at_once`."""
        now = time.monotonic()
        if not failed_rollouts and not at_once and now - self._looked < LOOK_EVERY_S:
            return None
        self._looked = now
        if self.stop_file.exists():
            asked = self.stop_file.read_text().strip()
            return f"asked to stop ({asked or self.stop_file})"
        dead, restarted = self.actors.look()
        for line in restarted:
            self.say(line)
        if dead:
            return "; ".join(dead)
        if failed_rollouts:
            return f"the rollouts of {failed_rollouts} prompts failed; train.log has their errors"
        return None
