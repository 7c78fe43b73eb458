"""A TransferQueue whose controller is dead is an error, and not waited for.

Upstream's clients ask the controller through ZeroMQ, which connects again for ever and says nothing. Here a client that
waits for longer than a moment asks Ray whether the controller lives.
"""

import asyncio
from collections.abc import Coroutine
from concurrent import futures
from typing import Any

import ray
from ray._private import state  # as in actors.py
from transfer_queue.client import TransferQueueClient

LOOK_EVERY_S = 5.0
NAME = "TransferQueueController"
"""Upstream's, in Ray."""


def register() -> None:
    """Have the clients of this process look. Once more changes nothing."""
    TransferQueueClient._run_coroutine = _run_while_it_lives


def _run_while_it_lives(self: TransferQueueClient, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """In the place of upstream's method. Raises ConnectionError where the answer can never come."""
    answer = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
    while not futures.wait([answer], timeout=LOOK_EVERY_S).done:
        if not _lives():
            answer.cancel()
            raise ConnectionError("TransferQueue's controller is gone, and with it what it knew of the rollouts")
    return answer.result()


def _lives() -> bool:
    """Whether Ray's control store has the controller; True where it cannot be asked.

    A handle tells nothing: where ray.get_actor has given one before, it goes on giving it.
    """
    if not ray.is_initialized():
        return True
    job = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
    states = {actor["State"] for actor in state.actors(job_id=job).values() if actor["Name"] == NAME}
    return states != {"DEAD"}
