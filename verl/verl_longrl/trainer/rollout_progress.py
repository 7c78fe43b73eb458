"""Progress of a step's rollouts, and the oldest ones still running, for the watchdog's line.

The trainer's thread takes the counts whenever the replay buffer polls; the watchdog's thread reads them.
"""

import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import ray
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

SHOWN = 3
ANSWER_WITHIN_S = 10.0


class RolloutCounts(NamedTuple):
    """rollouts: received. finished: prompts with all of their rollouts. running: prompts that are waited for."""

    rollouts: int = 0
    finished: int = 0
    running: int = 0


class RolloutProgress:
    """submitted: prompt id -> (dataset row, monotonic time at which it was submitted), of this step."""

    def __init__(self) -> None:
        self.submitted: dict[str, tuple[Any, float]] = {}
        self.counts = RolloutCounts()
        self._running: frozenset[str] = frozenset()

    def add(self, uids: Iterable[str], rows: Iterable[Any]) -> None:
        """Note prompts, and their dataset rows, that have been handed to the agent loops."""
        now = time.monotonic()
        self.submitted.update({uid: (row, now) for uid, row in zip(uids, rows, strict=True)})

    def update(self, buffer: ReplayBuffer, partition_id: str) -> None:
        """Take the counts of a partition as the buffer has just seen them."""
        self._running = frozenset(buffer.running_keys[partition_id] | buffer.pending_keys[partition_id])
        finished = len(buffer.finished_keys[partition_id])
        self.counts = RolloutCounts(len(buffer.partitions[partition_id]), finished, len(self._running))

    def describe_pending(self, balancer: Any | None) -> str:
        """The progress and the slowest prompts, e.g. `prompts 3/8 done, 24 rollouts received; ...`; "" if all are done.

        balancer: the handle of LongRL's router, which knows the requests in flight; None: not known.
        """
        rollouts, finished, running = self.counts
        if not running:
            return ""
        lines = [f"prompts {finished}/{finished + running} done, {rollouts} rollouts received"]
        now = time.monotonic()
        pending = [self.submitted[uid] for uid in self._running if uid in self.submitted]
        if slowest := sorted(pending, key=lambda row_and_time: row_and_time[1])[:SHOWN]:
            rows = ", ".join(f"{row} ({now - since:,.0f} s)" for row, since in slowest)
            lines.append(f"slowest prompts (dataset rows): {rows}")
        if balancer is not None:
            requests = ray.get(balancer.oldest_requests.remote(SHOWN), timeout=ANSWER_WITHIN_S)
            oldest = [f"{server} for {seconds:,.0f} s (prompt of {n:,} tokens)" for server, seconds, n in requests]
            in_flight = ", ".join(oldest)
            none = "no generation request in flight: waiting for rewards"
            lines.append(f"oldest requests: {in_flight}" if in_flight else none)
        return "; ".join(lines)
