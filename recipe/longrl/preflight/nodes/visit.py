"""A process on every node of a Ray cluster, to be asked things; one that does not answer in time is not waited for.

What is sent is this module by value: it needs nothing but Python there, so a node where LongRL cannot be imported can
say so. It asks for no CPU, so that it runs on a cluster that has none left.
"""

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class Visitor:
    """On the node. Answers one question after the other."""

    def clock(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def hello(self) -> str | None:
        """Why LongRL cannot be imported here; None if it can."""
        try:
            from recipe.longrl.preflight.nodes import looks  # noqa: F401
        except Exception as error:  # noqa: BLE001  a broken installation raises what it likes
            return f"{type(error).__name__}: {error}"
        return None

    def look(self, name: str, question: Any) -> list[Any]:
        """The findings of one look."""
        from recipe.longrl.preflight.nodes import looks

        return looks.look(name, question)


class Deadline:
    """A moment that all waiting ends at."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    def left(self, share: float = 1.0) -> float:
        """Seconds until then, or a share of them; never less than a tenth, for what is there already."""
        return max(0.1, (self._ends - time.monotonic()) * share)


def on(node_id: str, actor_class: type, **options: Any) -> Any:
    """A handle on an actor pinned to a node, of a class whose module is sent by value."""
    import ray
    from ray import cloudpickle
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    module = sys.modules[actor_class.__module__]
    cloudpickle.register_pickle_by_value(module)
    try:
        pinned = NodeAffinitySchedulingStrategy(node_id, soft=False)
        made: Any = ray.remote(actor_class).options(num_cpus=0, max_restarts=0, scheduling_strategy=pinned, **options)
        return made.remote()
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def gather(asked: Mapping[Any, Any], seconds: float) -> dict[Any, Any]:
    """What came of Ray's references within the time, by their keys; an exception where there was one, and nothing for
    what is still under way."""
    import ray

    ready, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=seconds) if asked else ([], [])
    came = {}
    for key, reference in asked.items():
        if reference in ready:
            try:
                came[key] = ray.get(reference)
            except Exception as error:  # noqa: BLE001  Ray's, or the node's own
                came[key] = error
    return came


def clock_offset(visitor: Any, samples: int = 5) -> tuple[float, float]:
    """By how many seconds the node's clock is ahead of this one, and by how much that may be wrong: half of the fastest
    round trip. Raises ray.exceptions.GetTimeoutError."""
    import ray

    best = (0.0, float("inf"))
    for _ in range(samples):
        before = time.time()
        there = ray.get(visitor.clock.remote(), timeout=5)
        after = time.time()
        if (after - before) / 2 < best[1]:
            best = (there - (before + after) / 2, (after - before) / 2)
    return best


def end(actors: Iterable[Any]) -> None:
    """Kill actors, whatever they are doing."""
    import ray

    for actor in actors:
        ray.kill(actor)


def names(hosts: Sequence[tuple[str, str, str]]) -> list[str]:
    """`host (address)` of each (host, address, id), with the beginning of the id where others have the same."""
    plain = [f"{host} ({address})" for host, address, _ in hosts]
    return [
        name if plain.count(name) == 1 else f"{name[:-1]}, node {id_[:8]})"
        for name, (_, _, id_) in zip(plain, hosts, strict=True)
    ]
