"""Ask a running Ray cluster whether it has room for the run's placement groups.

verl waits for its placement groups without a limit and without a message. So the resources of each node are read
before the run starts, in total and free, and for half a minute what another job is just giving back is waited for.

Ray's client can hang, or end its process. So a process of its own talks to Ray: it runs this file by its path, and
imports nothing but Ray.
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

CPUS_PER_GPU = 3
"""verl's placement groups ask for them (ResourcePoolManager.max_colocate_count)."""
CONNECT_TIMEOUT_S, FREE_TIMEOUT_S, QUERY_TIMEOUT_S = 5.0, 35.0, 55.0


class ClusterUnreachable(ConnectionError):
    """No Ray cluster answers at the address; the message says what was tried."""


@dataclass(frozen=True)
class NodeResources:
    """GPUs and Ray CPUs of one node: in total, and those that no job holds now."""

    node: str
    gpus: float
    cpus: float
    free_gpus: float
    free_cpus: float


@dataclass(frozen=True)
class PlacementRequest:
    """groups: GPUs of each placement group, which lies on one node. extra_cpus: Ray CPUs outside of the groups."""

    groups: list[int]
    extra_cpus: int

    @property
    def cpus(self) -> int:
        """Ray CPUs in total."""
        return CPUS_PER_GPU * sum(self.groups) + self.extra_cpus


@dataclass(frozen=True)
class ClusterState:
    """The nodes of a cluster and, where the run has no room at the moment, the jobs that may hold what it needs."""

    nodes: list[NodeResources]
    jobs: list[str] = field(default_factory=list)


def query_cluster(
    address: str, ray_init: Mapping[str, Any], request: PlacementRequest, wait_s: float = 0.0
) -> ClusterState:
    """The state of the cluster at `address`, as soon as the request fits into what is free, or after `wait_s`. Raises
    ClusterUnreachable, after QUERY_TIMEOUT_S at the latest."""
    problem = f"no Ray cluster answers at {address}"
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        # Ray's own client tries for a minute.
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        raise ClusterUnreachable(f"{problem}: {type(error).__name__}: {error}") from error
    query = {"ray_init": connection_arguments(ray_init), "request": asdict(request), "wait_s": wait_s}
    try:
        command = [sys.executable, "-P", __file__, json.dumps(query)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=QUERY_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise ClusterUnreachable(f"{problem} within {QUERY_TIMEOUT_S:.0f} s") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
        raise ClusterUnreachable(f"{problem}: {lines[-1].strip()}")
    state = json.loads(done.stdout.strip().splitlines()[-1])
    return ClusterState([NodeResources(**node) for node in state["nodes"]], state["jobs"])


def connection_arguments(ray_init: Mapping[str, Any]) -> dict[str, Any]:
    """The part of ray_kwargs.ray_init with which ray.init joins the run's cluster. An address is passed only where the
    configuration has one: Ray authenticates differently at one that it finds by itself."""
    return {key: ray_init[key] for key in ("address", "_temp_dir") if ray_init.get(key) is not None}


def unplaced_groups(groups: list[int], nodes: list[tuple[float, float]]) -> list[int]:
    """GPUs of each placement group that fits on no node, when the largest are placed first, each on the fullest node
    that has room. nodes: GPUs and CPUs of each."""
    free, unplaced = [list(node) for node in nodes], []
    for gpus in sorted(groups, reverse=True):
        with_room = [node for node in free if node[0] >= gpus and node[1] >= CPUS_PER_GPU * gpus]
        if with_room:
            node = min(with_room, key=lambda node: node[0])
            node[0] -= gpus
            node[1] -= CPUS_PER_GPU * gpus
        else:
            unplaced.append(gpus)
    return unplaced


def fits(request: PlacementRequest, nodes: list[tuple[float, float]]) -> bool:
    """Whether nodes with these GPUs and CPUs have room for all that is requested."""
    return not unplaced_groups(request.groups, nodes) and sum(cpus for _, cpus in nodes) >= request.cpus


def _read_nodes() -> list[NodeResources]:
    import ray

    free, nodes = ray._private.state.available_resources_per_node(), []
    for node in ray.nodes():
        if node["Alive"]:
            name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            total, now = node["Resources"], free.get(node["NodeID"], {})
            amounts = [resources.get(kind, 0) for resources in (total, now) for kind in ("GPU", "CPU")]
            nodes.append(NodeResources(name, *amounts))
    return nodes


def _list_other_jobs() -> list[str]:
    """The drivers that are connected to the cluster, without this one and Ray's own."""
    import ray

    this_job = ray.get_runtime_context().get_job_id()
    return [
        f"`{job['Entrypoint']}` (process {job['DriverPid']} on {job['DriverIPAddress']}, job {job['JobID']})"
        for job in ray._private.state.jobs()
        if not job["IsDead"] and job["JobID"] != this_job and job["DriverPid"]
    ]


def _answer_query(query: dict[str, Any]) -> None:
    """In the process of its own: print the cluster's state as the last line, and exit without Ray's shutdown."""
    import ray

    ray.init(**query["ray_init"], log_to_driver=False, logging_level=logging.ERROR)
    request, deadline = PlacementRequest(**query["request"]), time.monotonic() + query["wait_s"]
    nodes = _read_nodes()
    possible = fits(request, [(node.gpus, node.cpus) for node in nodes])
    while not (free := fits(request, [(n.free_gpus, n.free_cpus) for n in nodes])) and possible:
        if time.monotonic() > deadline:
            break
        time.sleep(1.0)
        nodes = _read_nodes()
    jobs = _list_other_jobs() if possible and not free else []
    print("\n" + json.dumps({"nodes": [asdict(node) for node in nodes], "jobs": jobs}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    _answer_query(json.loads(sys.argv[1]))
