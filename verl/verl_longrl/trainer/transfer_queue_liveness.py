"""A TransferQueue that has lost its controller or a storage unit is an error, and not waited for.

verl's clients ask both through ZeroMQ, which connects again for ever and says nothing: for a controller they wait
without end, for a storage unit for minutes. Here a client that waits for longer than a moment asks Ray who is dead.
"""

import asyncio
from collections.abc import Coroutine
from concurrent import futures
from typing import Any

import ray
from ray._private import state  # as in actor_health.py
from transfer_queue.client import TransferQueueClient

LOOK_EVERY_S = 5.0
PARTS = ("TransferQueueController", "SimpleStorageUnit")
"""verl's classes of Ray actors."""


def register() -> None:
    """Have the clients of this process look. Once more changes nothing."""
    TransferQueueClient._run_coroutine = _run_while_it_lives


def _run_while_it_lives(self: TransferQueueClient, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """In the place of verl's method. Raises ConnectionError where the answer can never come."""
    answer = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
    while not futures.wait([answer], timeout=LOOK_EVERY_S).done:
        if dead := _dead():
            answer.cancel()
            raise ConnectionError(f"TransferQueue's {dead} is gone, and with it rollouts of this step")
    return answer.result()


def _dead() -> str | None:
    """The class of a part that Ray's control store has as dead; None where it cannot be asked.

    A handle tells nothing: where ray.get_actor has given one before, it goes on giving it.
    """
    if not ray.is_initialized():
        return None
    job = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
    dead = {actor["ActorClassName"] for actor in state.actors(job_id=job).values() if actor["State"] == "DEAD"}
    return next((part for part in PARTS if part in dead), None)
