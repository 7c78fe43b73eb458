"""A pool of scorer processes, in which a response that hangs its scorer delays no other response.

Scorers run in worker processes that can be killed (`fork_server.py`, `worker.py`). The time line of one job:

    0          20 ms (PATIENCE_S)        0.5 s (GRACE_S)            timeout_s
    |-- holds a slot --|-- slot free for the next job --|-- low priority --|-- worker killed, status timeout

So hanging responses never queue others behind them, not even when more of them arrive at once than there are workers.
Late is not dead: on a busy machine any score may be late, so a worker that finishes within `GRACE_S` is used again. A
signal or a thread cannot do this: a regular expression or a huge power holds the interpreter lock.

Each worker has its own pipe, and a kill is SIGKILL: a dying process cannot leave a lock held. This is why it is not
pebble's pool: there, with as many hanging jobs as workers, every other job waits for their deadline, and the workers
re-import the caller's `__main__`, which under Ray is Ray itself.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from verl_longrl.rewards.isolation.fork_server import ForkServer, ScorerWorker
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.score import Score, Status, scores_from_json
from verl_longrl.rewards.scoring import Job

PATIENCE_S = 0.02
"""A job that takes longer gives up its slot. A normal score takes a millisecond."""
GRACE_S = 0.5
"""A job that takes longer continues at low priority, and its worker is not used again."""
MAX_SLOW = 32
"""Jobs that may run without a slot at the same time. If more than this hang, they do delay others."""
MAX_SPARE = 4
"""Idle workers kept beyond `workers`; they were forked while others were slow."""
LONGEST_ANSWER = 64 << 20
"""Bytes of the scores of one job."""
_NICE = 5


class IsolatedScorer:
    """Scores in worker processes; usable from any event loop and any thread.

    options: `workers` jobs run at once, not counting the slow ones; `scorers` are loaded in the workers; `timeout_s` is
    the deadline of one job and `worker_memory_gib` its address space. Construction waits until the workers are ready,
    so the first score is as fast as the rest. Raises RuntimeError when a scorer module cannot be imported.
    """

    def __init__(self, options: RewardOptions | None = None):
        self.options = options or RewardOptions()
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._slots = threading.Semaphore(self.options.workers)
        self._threads = ThreadPoolExecutor(self.options.workers + MAX_SLOW, thread_name_prefix="longrl-score")
        self._closed = False
        self._server = ForkServer(self.options)
        self._idle = [self._server.fork() for _ in range(self.options.workers)]

    async def score_for_each_verdict(self, job: Job) -> tuple[Score, ...]:
        """`scoring.score_for_each_verdict` in a worker. Never raises for a sample.

        Past the deadline the result is one Score with status timeout. A sample that cannot be sent to a worker, a
        scorer that raises or ends its process, and a score that cannot be read back give scorer_error. Raises
        RuntimeError once this pool is closed.
        """
        self._refuse_if_closed()
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._score_for_each_verdict, job)

    def score_for_each_verdict_blocking(self, job: Job) -> tuple[Score, ...]:
        """The same for callers without an event loop; blocks for at most the deadline once a worker is free."""
        self._refuse_if_closed()
        return self._score_for_each_verdict(job)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise RuntimeError("this IsolatedScorer is closed; create a new one")

    def _score_for_each_verdict(self, job: Job) -> tuple[Score, ...]:
        try:
            job = job._replace(**{name: _plain(value) for name, value in job._asdict().items() if name != "options"})
            message = pickle.dumps(job)
        except Exception as error:  # noqa: BLE001  the boundary: pickling runs code of the values' classes
            results = _failure("scorer_error", f"the sample cannot be sent to a scorer process: {_named(error)}")
        else:
            results = self._run_in_turn(message, job.options.timeout_s)
        with self._lock:
            self._counts["scored"] += 1
            self._counts["timeouts"] += results[0].status == "timeout"
            self._counts["scorer_errors"] += results[0].status == "scorer_error"
        return results

    def _run_in_turn(self, message: bytes, timeout_s: float) -> tuple[Score, ...]:
        self._slots.acquire()
        slot = _Slot(self._slots)
        try:
            return self._run(message, timeout_s, slot)
        finally:
            slot.release()

    def _run(self, message: bytes, timeout_s: float, slot: _Slot) -> tuple[Score, ...]:
        worker = self._hand_over(message)
        if worker is None:
            return _failure("scorer_error", "the scorer was closed before this sample's turn came")
        healthy = niced = False
        try:
            # Three waits: up to PATIENCE_S the job holds its slot; then the next job gets the slot while this one
            # continues; after GRACE_S it only gets CPU time that nobody else wants, until timeout_s ends it.
            started = time.monotonic()
            if not worker.connection.poll(min(PATIENCE_S, timeout_s)):
                slot.release()
                with self._lock:
                    self._counts["slow"] += 1
                if not worker.connection.poll(max(0.0, min(GRACE_S, timeout_s) - (time.monotonic() - started))):
                    # Only root can raise a priority again, so a worker that was niced is replaced when it is done.
                    niced = True
                    _lower_priority(worker.pid)
                    if not worker.connection.poll(max(0.0, timeout_s - (time.monotonic() - started))):
                        return _failure("timeout", f"the scorer took longer than timeout_s = {timeout_s:g} s")
            answer = worker.connection.recv_bytes(LONGEST_ANSWER)
            results = scores_from_json(answer)
            healthy = not niced
            return results
        except (EOFError, OSError):
            return _failure("scorer_error", "the scorer's process died (exit, crash or out of memory)")
        except Exception as error:  # noqa: BLE001  the boundary: a scorer may have taken the process over
            return _failure("scorer_error", f"the score cannot be read outside its process: {_named(error)}")
        finally:
            self._give_back(worker, healthy)

    def _hand_over(self, message: bytes) -> ScorerWorker | None:
        """Send the job to a living worker, replacing one that died while idle. None when the pool is closed."""
        while worker := self._take():
            try:
                worker.connection.send_bytes(message)
            except OSError:
                self._give_back(worker, healthy=False)
            else:
                return worker
        return None

    def _take(self) -> ScorerWorker | None:
        with self._lock:
            if self._closed:
                return None
            if self._idle:
                return self._idle.pop()
            try:
                return self._server.fork()
            except OSError:
                # The server itself was killed, and its workers with it. Start a new one.
                self._server.close()
                self._server = ForkServer(self.options)
                self._counts["server_restarts"] += 1
                return self._server.fork()

    def _give_back(self, worker: ScorerWorker, healthy: bool) -> None:
        with self._lock:
            if self._closed or worker.server is not self._server:
                # The worker ends at the end of its input, or has ended with its server.
                worker.connection.close()
                return
            if healthy and len(self._idle) < self.options.workers + MAX_SPARE:
                self._idle.append(worker)
                return
            worker.connection.close()
            self._counts["restarts"] += not healthy
            try:
                self._server.end(worker.pid)
                if len(self._idle) < self.options.workers:
                    self._idle.append(self._server.fork())
            except OSError:
                # The server is gone and its workers with it; `_take` starts the next one.
                return

    def metrics(self) -> dict[str, float]:
        """Counts since the start: scored, timeouts, scorer_errors, restarts (of workers), slow, server_restarts."""
        names = ("scored", "timeouts", "scorer_errors", "restarts", "slow", "server_restarts")
        with self._lock:
            return {name: float(self._counts[name]) for name in names}

    def close(self) -> None:
        """End every worker, also hanging ones. Scores that are running or waiting become scorer_error."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for worker in self._idle:
                worker.connection.close()
            self._idle.clear()
            self._server.close()
        self._threads.shutdown(wait=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Slot:
    """One of the places for jobs that run at once. A slow job releases it early, any other when it is done."""

    def __init__(self, semaphore: threading.Semaphore):
        self._semaphore, self.released = semaphore, False

    def release(self) -> None:
        if not self.released:
            self.released = True
            self._semaphore.release()


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _failure(status: Status, reason: str) -> tuple[Score, ...]:
    return (Score(0.0, {}, status, reason),)


def _lower_priority(pid: int) -> None:
    try:
        os.setpriority(os.PRIO_PROCESS, pid, _NICE)
    except ProcessLookupError:
        # The worker just died, which reading its result will report.
        return


def _plain(value: Any) -> Any:
    """numpy values as Python ones.

    verl passes strings as numpy.str_. A worker that has to import numpy to read its first job would be late for it, and
    so would every new worker.
    """
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
