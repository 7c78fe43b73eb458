"""Whether Ray places the run now: its placement groups are asked for, waited for, and removed again.

Arithmetic on what a cluster has in total cannot know what another job holds, and verl waits for its placement
groups without a limit and without a word. So the same groups are tried. Everything that talks to Ray happens in a
process of its own, which runs this file by its path and imports nothing but Ray: Ray's client can hang, or end its
process.
"""

import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

CPUS_PER_GPU = 3  # verl's placement groups ask for them (ResourcePoolManager.max_colocate_count)
CONNECT_TIMEOUT_S, TRY_TIMEOUT_S, PROBE_TIMEOUT_S = 5.0, 35.0, 55.0


class Unreachable(ConnectionError):
    """There is no Ray at the address; the message says what was tried."""


@dataclass(frozen=True)
class Room:
    """GPUs and Ray CPUs of one node: in all, and not taken at the moment."""

    node: str
    gpus: float
    cpus: float
    free_gpus: float
    free_cpus: float


@dataclass(frozen=True)
class Wanted:
    """GPUs of each placement group, which lies on one node, and Ray CPUs asked for beside them."""

    groups: list[int]
    more_cpus: int

    @property
    def cpus(self) -> int:
        """Ray CPUs in all."""
        return CPUS_PER_GPU * sum(self.groups) + self.more_cpus


@dataclass(frozen=True)
class Answer:
    """What the cluster has and, if it was tried, whether it placed the run; if not, who may hold what is taken."""

    rooms: list[Room]
    placed: bool | None = None
    jobs: list[str] = field(default_factory=list)


def ask(address: str, ray_init: Mapping[str, Any], wanted: Wanted | None) -> Answer:
    """The nodes of the cluster at `address`, and whether it places `wanted` (None: nothing is tried).

    What the nodes could never place is not tried. Raises Unreachable, after PROBE_TIMEOUT_S at the latest.
    """
    place = f"no Ray cluster answers at {address}"
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError) as error:  # Ray itself would go on trying for a minute
        raise Unreachable(f"{place}: {type(error).__name__}: {error}") from error
    asked = {"ray_init": connecting(ray_init), "wanted": wanted and asdict(wanted), "seconds": TRY_TIMEOUT_S}
    try:
        command = [sys.executable, "-P", __file__, json.dumps(asked)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise Unreachable(f"{place} within {PROBE_TIMEOUT_S:.0f} s") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
        raise Unreachable(f"{place}: {said[-1].strip()}")
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    return Answer([Room(**room) for room in answer["rooms"]], answer["placed"], answer["jobs"])


def connecting(ray_init: Mapping[str, Any]) -> dict[str, Any]:
    """What ray.init needs of ray_kwargs.ray_init to join the run's cluster. An address is handed on as it is, or not at
    all: Ray authenticates otherwise with one that it is given than with one that it finds."""
    return {key: ray_init[key] for key in ("address", "_temp_dir") if ray_init.get(key) is not None}


def unplaced(groups: list[int], nodes: list[tuple[float, float]]) -> list[int]:
    """GPUs of the groups that find no node, each put on the fullest node that still has room, the largest first.

    nodes: GPUs and CPUs of each.
    """
    free, left = [list(node) for node in nodes], []
    for gpus in sorted(groups, reverse=True):
        fitting = [node for node in free if node[0] >= gpus and node[1] >= CPUS_PER_GPU * gpus]
        if fitting:
            node = min(fitting, key=lambda node: node[0])
            node[0] -= gpus
            node[1] -= CPUS_PER_GPU * gpus
        else:
            left.append(gpus)
    return left


def fits(wanted: Wanted, nodes: list[tuple[float, float]]) -> bool:
    """Whether nodes with these GPUs and CPUs have room for all that is wanted."""
    return not unplaced(wanted.groups, nodes) and sum(cpus for _, cpus in nodes) >= wanted.cpus


def _answer(question: str) -> None:
    """The process of its own: prints the answer as its last line, and ends without Ray's farewell."""
    import ray

    asked = json.loads(question)
    ray.init(**asked["ray_init"], log_to_driver=False, logging_level=logging.ERROR)
    free = ray._private.state.available_resources_per_node()
    rooms = []
    for node in ray.nodes():
        if node["Alive"]:
            has, left = node["Resources"], free.get(node["NodeID"], {})
            name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            rooms.append(Room(name, *(source.get(kind, 0) for source in (has, left) for kind in ("GPU", "CPU"))))
    placed, jobs = None, []
    wanted = asked["wanted"] and Wanted(**asked["wanted"])
    if wanted and fits(wanted, [(room.gpus, room.cpus) for room in rooms]):
        placed = _try(wanted, asked["seconds"])
        jobs = [] if placed else _other_jobs()
    print("\n" + json.dumps({"rooms": [asdict(room) for room in rooms], "placed": placed, "jobs": jobs}), flush=True)
    os._exit(0)


def _try(wanted: Wanted, seconds: float) -> bool:
    """Ask for what verl will ask for: one group per node, and the single CPUs of its other actors."""
    from ray.util.placement_group import placement_group, remove_placement_group

    deadline = time.monotonic() + seconds
    bundles = [[{"GPU": 1, "CPU": CPUS_PER_GPU}] * gpus for gpus in wanted.groups]
    groups = [placement_group(bundle, strategy="STRICT_PACK") for bundle in bundles]
    groups.append(placement_group([{"CPU": 1}] * wanted.more_cpus, strategy="PACK"))
    try:
        return all(group.wait(max(0.1, deadline - time.monotonic())) for group in groups)
    finally:
        for group in groups:
            remove_placement_group(group)


def _other_jobs() -> list[str]:
    """The drivers that are connected to the cluster, without this one and Ray's own."""
    import ray

    own = ray.get_runtime_context().get_job_id()
    return [
        f"`{job['Entrypoint']}` (process {job['DriverPid']} on {job['DriverIPAddress']}, job {job['JobID']})"
        for job in ray._private.state.jobs()
        if not job["IsDead"] and job["JobID"] != own and job["DriverPid"]
    ]


if __name__ == "__main__":
    _answer(sys.argv[1])
