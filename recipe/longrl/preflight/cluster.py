"""Whether Ray can place the run: every placement group finds a node with its GPUs and CPUs.

Upstream calls `ray.init(**ray_kwargs.ray_init)`, which attaches to a running cluster (RAY_ADDRESS, else one that
`ray start` left on this machine) and otherwise starts a Ray of its own here; the same is looked at. A placement group
that fits nowhere would be waited for, without a word.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig

from recipe.longrl import settings
from recipe.longrl.preflight.check import Check, describe

CPUS_PER_GPU = 3  # upstream's placement groups ask for them (ResourcePoolManager.max_colocate_count)
REFUSED_WHEN_ATTACHING = ("num_cpus", "num_gpus", "resources", "labels", "object_store_memory")  # by ray.init
CONNECT_TIMEOUT_S, PROBE_TIMEOUT_S = 5.0, 60.0
Node = tuple[float, float]
"""GPUs and CPUs of one node."""

_PROBE = """
import json, os, sys, ray
ray.init(**json.loads(sys.argv[1]), log_to_driver=False, logging_level="ERROR")
found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
print("\\n" + json.dumps([[node.get("GPU", 0), node.get("CPU", 0)] for node in found]), flush=True)
os._exit(0)
"""


class Unreachable(ConnectionError):
    """There is no Ray at the address; the message says what was tried."""


def checks(config: DictConfig, dry_run: bool) -> Iterator[Check]:
    """One line: where the run would be placed, or why it would not."""
    try:
        address = attached_to(config)
        nodes = own_node(config) if address is None else probe(address, config.ray_kwargs.ray_init)
    except Unreachable as error:
        yield Check(
            "cluster",
            "FAIL",
            f"{error}. Fix: correct RAY_ADDRESS or unset it; what a dead cluster left behind, `ray stop` removes; "
            "RAY_ADDRESS=local starts a Ray of its own",
        )
        return
    given = [key for key in REFUSED_WHEN_ATTACHING if config.ray_kwargs.ray_init.get(key) is not None]
    if address is not None and given:
        yield Check(
            "cluster",
            "FAIL",
            f"a Ray cluster runs at {address}, and ray.init refuses {', '.join(given)} when it attaches to one. Fix: "
            f"{' '.join(f'ray_kwargs.ray_init.{key}=null' for key in given)}; or RAY_ADDRESS=local, for a Ray of its "
            "own; or `ray stop`",
        )
        return
    yield _fit(config, nodes, address, dry_run)


def attached_to(config: DictConfig) -> str | None:
    """Address of the running cluster that ray.init will attach to; None if it will start one.

    Raises Unreachable when the address is `auto` and nothing runs.
    """
    from ray._private.services import get_ray_address_from_environment

    ray_init = config.ray_kwargs.ray_init
    address = ray_init.get("address")
    if address in (None, "auto"):
        try:
            address = get_ray_address_from_environment(address, ray_init.get("_temp_dir"))
        except ConnectionError as error:
            raise Unreachable(describe(error)) from error
    return None if address == "local" else address


def starts_here(config: DictConfig) -> bool:
    """Whether ray.init will start a Ray of its own on this machine."""
    try:
        return attached_to(config) is None
    except Unreachable:
        return False


def probe(address: str, ray_init: Mapping[str, Any]) -> list[Node]:
    """The nodes of the cluster at `address`, asked in a process of its own: Ray's client can hang, or exit.

    ray_init: its `address` and `_temp_dir` are handed on as they are, for Ray authenticates otherwise with an address
    it is given than with one it finds. Raises Unreachable, after PROBE_TIMEOUT_S at the latest.
    """
    place = f"no Ray cluster answers at {address}"
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError) as error:  # Ray itself would go on trying for a minute
        raise Unreachable(f"{place}: {describe(error)}") from error
    given = {key: ray_init[key] for key in ("address", "_temp_dir") if ray_init.get(key) is not None}
    try:
        command = [sys.executable, "-c", _PROBE, json.dumps(given)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise Unreachable(f"{place} within {PROBE_TIMEOUT_S:.0f} s") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
        raise Unreachable(f"{place}: {said[-1].strip()}")
    return [(gpus, cpus) for gpus, cpus in json.loads(done.stdout.strip().splitlines()[-1])]


def own_node(config: DictConfig) -> list[Node]:
    """This machine as the Ray that ray.init starts here will see it."""
    ray_init = config.ray_kwargs.ray_init
    cpus = ray_init.get("num_cpus") or os.cpu_count() or 1
    if config.trainer.device == "cpu":
        return [(ray_init.get("num_gpus") or 0, cpus)]
    import torch

    gpus = ray_init.get("num_gpus")
    return [(torch.cuda.device_count() if gpus is None else gpus, cpus)]


def groups(config: DictConfig) -> list[int]:
    """GPUs of each placement group: one per node of the trainer, and of a judge served by verl."""
    judge = config.reward.reward_model
    trainer = [config.trainer.n_gpus_per_node] * config.trainer.nnodes
    served = judge.enable and judge.enable_resource_pool
    return trainer + ([judge.n_gpus_per_node] * judge.nnodes if served else [])


def needed_cpus(config: DictConfig) -> int:
    """Ray CPUs upstream asks for: 3 per GPU in its placement groups, 1 per storage unit, controller and driver."""
    units = config.transfer_queue.backend.SimpleStorage.num_data_storage_units
    return CPUS_PER_GPU * settings.cluster_gpus(config) + units + 2


def unplaced(wanted: list[int], nodes: list[Node]) -> list[int]:
    """GPUs of the groups that find no node, each put on the fullest node that still has room, the largest first."""
    free, left = [list(node) for node in nodes], []
    for gpus in sorted(wanted, reverse=True):
        fitting = [node for node in free if node[0] >= gpus and node[1] >= CPUS_PER_GPU * gpus]
        if fitting:
            node = min(fitting, key=lambda node: node[0])
            node[0] -= gpus
            node[1] -= CPUS_PER_GPU * gpus
        else:
            left.append(gpus)
    return left


def _fit(config: DictConfig, nodes: list[Node], address: str | None, dry_run: bool) -> Check:
    wanted, cpus, on_cpu = groups(config), needed_cpus(config), config.trainer.device == "cpu"
    kind = "logical devices" if on_cpu else "GPUs"
    place = "the Ray started here" if address is None else f"the Ray cluster at {address}"
    have = ", ".join(f"{gpus:g} {kind} and {cpus:g} CPUs" for gpus, cpus in nodes) or "no node"
    shape = " + ".join(f"{wanted.count(n)} x {n}" for n in dict.fromkeys(wanted))
    detail = f"needs {shape} {kind} (nodes x each) and {cpus} Ray CPUs; {place} has {have}"
    problem = _shortage(config, nodes, kind, started_here=address is None)
    if problem is None:
        return Check("cluster", "ok", detail)
    if dry_run and address is None and not on_cpu:  # which says nothing about the machine that will train
        return Check("cluster", "warn", f"{detail}: fine for a dry run; to train, {problem}")
    return Check("cluster", "FAIL", f"{detail}; the placement would wait for ever: {problem}")


def _shortage(config: DictConfig, nodes: list[Node], kind: str, started_here: bool) -> str | None:
    """What there is too little of, and the fix; None if all placement groups find a node."""
    wanted, cpus = groups(config), needed_cpus(config)
    have_gpus, have_cpus = (sum(node[i] for node in nodes) for i in (0, 1))
    if have_gpus < sum(wanted):
        fix = "run on a cluster (RAY_ADDRESS) or choose another hardware=... group (cpu needs no GPU)"
        if config.trainer.device == "cpu":
            fix = f"set ray_kwargs.ray_init.num_gpus={sum(wanted)}"
        return f"too few {kind}, {fix}"
    if have_cpus < cpus:
        fix = f"set ray_kwargs.ray_init.num_cpus={cpus}" if started_here else "give `ray start` a larger --num-cpus"
        return f"too few CPUs, {fix} (tickets, not cores)"
    if left := unplaced(wanted, nodes):
        return (
            f"no node has room for {' and '.join(f'{n} {kind} with {CPUS_PER_GPU * n} CPUs' for n in left)}, and a "
            "placement group lies on one node; set trainer.nnodes and trainer.n_gpus_per_node as the nodes are"
        )
    return None
