"""How far a step's rollouts are, and which of them are the oldest: what the watchdog tells of.

The trainer's thread takes the counts whenever the replay buffer has looked; the watchdog's thread reads them.
"""

import time
from collections.abc import Iterable
from typing import Any

import ray
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

SHOWN = 3
ANSWER_WITHIN_S = 10.0


class RolloutsUnderWay:
    """asked: prompt id -> (row of the data, monotonic time at which it was handed out), of this step."""

    def __init__(self) -> None:
        self.asked: dict[str, tuple[Any, float]] = {}
        self.how_far: tuple[int, int, int] = (0, 0, 0)
        """Rollouts that are there; prompts whose rollouts are all there; prompts that are waited for."""
        self._running: frozenset[str] = frozenset()

    def submitted(self, uids: Iterable[str], rows: Iterable[Any]) -> None:
        """These prompts, and the rows of the data that they are, have been handed to the agent loops."""
        now = time.monotonic()
        self.asked.update({uid: (row, now) for uid, row in zip(uids, rows, strict=True)})

    def look(self, buffer: ReplayBuffer, partition_id: str) -> None:
        """Take over what the buffer has just seen of a partition."""
        self._running = frozenset(buffer.running_keys[partition_id] | buffer.pending_keys[partition_id])
        finished = len(buffer.finished_keys[partition_id])
        self.how_far = len(buffer.partitions[partition_id]), finished, len(self._running)

    def waited_for(self, balancer: Any | None) -> str:
        """In words, or "" when nothing is. balancer: LongRL's, which knows the requests in flight; None: not known."""
        rollouts, finished, running = self.how_far
        if not running:
            return ""
        lines = [f"{finished} prompts are finished, {running} are not ({rollouts} rollouts are there)"]
        now = time.monotonic()
        known = [asked for uid in self._running if (asked := self.asked.get(uid)) is not None]
        if oldest := sorted(known, key=lambda row_and_time: row_and_time[1])[:SHOWN]:
            rows = ", ".join(f"{row} ({now - since:,.0f} s)" for row, since in oldest)
            lines.append(f"longest waited for, as rows of the data: {rows}")
        if balancer is not None:
            requests = ray.get(balancer.oldest_requests.remote(SHOWN), timeout=ANSWER_WITHIN_S)
            said = ", ".join(f"{server} for {s:,.0f} s (prompt of {tokens:,} tokens)" for server, s, tokens in requests)
            lines.append(f"oldest requests: {said}" if said else "no request is at a replica")
        return "; ".join(lines)
