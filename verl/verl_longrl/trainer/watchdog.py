"""When a run stands still, says where: the stage, how long, and what is being waited for.

A thread looks every few seconds at what the trainer's thread is doing (its stack) and at how far the stage has come.
If neither changes for a while it prints one line, again after twice as long, and so on. It ends nothing: a long stage
is no error, and what is known to be dead ends the run without it (`interruption.py`).
"""

import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

STAGES = {
    "_validate": "validating",
    "sample": "waiting for rollouts",
    "generate_sequences": "handing prompts to the agent loops",
    "sleep_replicas": "putting the vLLM replicas to sleep",
    "_compute_reward_colocate": "scoring",
    "_balance_batch": "balancing the batch",
    "_compute_old_log_prob": "computing old log-probs",
    "_compute_ref_log_prob": "computing reference log-probs",
    "_compute_values": "computing values",
    "_compute_advantage": "computing advantages",
    "_update_critic": "updating the critic",
    "_update_actor": "updating the actor",
    "_save_checkpoint": "saving a checkpoint",
    "update_weights": "sending the weights to the vLLM replicas",
    "_compute_metrics": "computing metrics",
    "_log_rollout_data": "writing rollouts",
}
"""Functions of verl's trainer and ours, by name; of those on the stack, the innermost says the stage."""
LOOK_EVERY_S = 5.0


class Watchdog:
    """Watches the thread that enters it, until it leaves.

    minutes: of standing still before the first line; 0 switches it off. progress: anything that changes while the stage
    goes on (it is called from the watching thread). details: what is being waited for, for people. say: prints a line.
    """

    def __init__(
        self,
        minutes: float,
        progress: Callable[[], object],
        details: Callable[[], str],
        say: Callable[[str], None],
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._patience, self._progress, self._details, self._say = 60 * minutes, progress, details, say
        self._look_every, self._left = look_every_s, threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._patience > 0:
            watched = threading.get_ident()
            self._thread = threading.Thread(target=self._watch, args=(watched,), name="watchdog", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self, thread: int) -> None:
        seen: tuple[str, object] | None = None
        since, patience = time.monotonic(), self._patience
        while not self._left.wait(self._look_every):
            now = (stage_of(sys._current_frames().get(thread)), self._progress())
            if now != seen:
                seen, since, patience = now, time.monotonic(), self._patience
            elif (stood := time.monotonic() - since) >= patience:
                self._say(f"standing still for {_duration(stood)}: {now[0]}{self._about()}")
                patience = 2 * stood

    def _about(self) -> str:
        try:
            details = self._details()
        except Exception as error:  # noqa: BLE001  what it asks may be what is dead; the line matters more
            details = f"what is being waited for does not answer: {type(error).__name__}: {error}"
        return f"; {details}" if details else ""


def stage_of(frame: FrameType | None) -> str:
    """What a thread with this innermost frame is doing."""
    frames = []
    while frame is not None:
        if stage := STAGES.get(frame.f_code.co_name):
            return stage
        frames.append(frame)
        frame = frame.f_back
    if not frames:
        return "the trainer's thread has ended"
    place = next((frame for frame in frames if "/verl" in frame.f_code.co_filename), frames[0])
    return f"in {place.f_code.co_name} ({place.f_code.co_filename}:{place.f_lineno})"


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes >= 1 else f"{seconds:.0f} s"
