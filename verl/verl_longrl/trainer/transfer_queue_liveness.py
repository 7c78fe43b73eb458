"""Raise an error when TransferQueue has lost its controller or a storage unit, instead of waiting for it.

verl's clients ask both through ZeroMQ, which reconnects silently and forever: they wait for a dead controller without
end, for a dead storage unit for minutes. Here a client that waits for longer than `POLL_EVERY_S` asks Ray for deaths.
"""

import asyncio
from collections.abc import Coroutine
from concurrent import futures
from typing import Any

import ray

# Private, as in actor_health.py.
from ray._private import state
from transfer_queue.client import TransferQueueClient

POLL_EVERY_S = 5.0
ACTOR_CLASSES = ("TransferQueueController", "SimpleStorageUnit")
"""Ray actors of TransferQueue, by the names of their classes."""


def register() -> None:
    """Have the clients of this process notice deaths. Idempotent."""
    TransferQueueClient._run_coroutine = _run_while_queue_is_alive


def _run_while_queue_is_alive(self: TransferQueueClient, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Replaces TransferQueue's method. Raises ConnectionError where the answer can never come."""
    answer = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
    while not futures.wait([answer], timeout=POLL_EVERY_S).done:
        if dead := _dead_actor():
            answer.cancel()
            raise ConnectionError(f"TransferQueue's {dead} died, and rollouts of this step are lost with it")
    return answer.result()


def _dead_actor() -> str | None:
    """The class of an actor that is dead according to Ray's control store; None without Ray.

    A handle does not tell: ray.get_actor keeps returning one that it has returned before.
    """
    if not ray.is_initialized():
        return None
    job = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
    dead = {actor["ActorClassName"] for actor in state.actors(job_id=job).values() if actor["State"] == "DEAD"}
    return next((name for name in ACTOR_CLASSES if name in dead), None)
