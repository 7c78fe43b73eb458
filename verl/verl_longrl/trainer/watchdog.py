"""Print a line when a run makes no progress: the stage, for how long, and what it waits for.

A thread checks every few seconds which function the trainer's thread is in (its stack), and the progress of the stage.
If neither changes for a while it prints one line, again after twice that time, and so on. It does not end the run: a
long stage is not an error, and known deaths end the run without it (`interruption.py`).
"""

import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

STAGES = {
    "_validate": "validating",
    "_evaluate": "answering the suites of longrl.evaluate",
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
"""Function of verl's trainer or ours -> stage. The innermost of these on the stack names the stage."""
POLL_EVERY_S = 5.0


class Watchdog:
    """A context manager that watches the thread that enters it, until it leaves.

    minutes: without progress before the first line; 0 switches the watchdog off. progress_key: any value that changes
    while the stage makes progress; called from the watching thread. describe_pending: what the stage waits for, in
    words. print_line: prints a line.
    """

    def __init__(
        self,
        minutes: float,
        progress_key: Callable[[], object],
        describe_pending: Callable[[], str],
        print_line: Callable[[str], None],
        poll_every_s: float = POLL_EVERY_S,
    ) -> None:
        self._patience_s, self._poll_every_s = 60 * minutes, poll_every_s
        self._progress_key, self._describe_pending, self._print_line = progress_key, describe_pending, print_line
        self._left = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._patience_s > 0:
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
        before: tuple[str, object] | None = None
        since, patience = time.monotonic(), self._patience_s
        while not self._left.wait(self._poll_every_s):
            now = (stage_of(sys._current_frames().get(thread)), self._progress_key())
            if now != before:
                before, since, patience = now, time.monotonic(), self._patience_s
            elif (idle := time.monotonic() - since) >= patience:
                self._print_line(f"no progress for {_duration(idle)}: {now[0]}{self._details()}")
                # Few lines, however long it takes.
                patience = 2 * idle

    def _details(self) -> str:
        try:
            details = self._describe_pending()
        # It may ask a dead actor, and the line matters more.
        except Exception as error:  # noqa: BLE001
            details = f"the router does not answer: {type(error).__name__}: {error}"
        return f"; {details}" if details else ""


def stage_of(frame: FrameType | None) -> str:
    """The stage that a thread with this innermost frame is in."""
    frames = []
    while frame is not None:
        if stage := STAGES.get(frame.f_code.co_name):
            return stage
        frames.append(frame)
        frame = frame.f_back
    if not frames:
        return "the trainer's thread has ended"
    # No known stage: name the innermost function of verl or LongRL.
    place = next((frame for frame in frames if "/verl" in frame.f_code.co_filename), frames[0])
    return f"in {place.f_code.co_name} ({place.f_code.co_filename}:{place.f_lineno})"


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes >= 1 else f"{seconds:.0f} s"
