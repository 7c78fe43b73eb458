"""Every node of the cluster is looked at from its inside, before GPUs are booked: what one lacks, it lacks for all.

A process on each node compares it with the driver's machine, with what Ray says of it and with what the run needs;
then all of them do a small all-reduce. Everything has a share of one time limit, and a node that does not answer is
named. Where the run starts a Ray of its own, this machine is the only node, and is looked at without Ray.
"""

import contextlib
import logging
import platform
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig
from verl_longrl.secrets import SecretsError

from recipe.longrl import worker_env
from recipe.longrl.preflight import cluster, placement
from recipe.longrl.preflight.check import Check, Status, collect, describe
from recipe.longrl.preflight.nodes import allreduce, files, folders, looks, software, visit
from recipe.longrl.preflight.nodes.finding import Finding, merge
from recipe.longrl.preflight.nodes.question import Driver, Node, Question
from recipe.longrl.preflight.nodes.visit import Deadline

TIMEOUT_S = 120.0
LOOKING, GREETING = 0.7, 0.6  # shares of the time: all before the all-reduce; of those, for processes to start
CLOCK_WARN_S, CLOCK_FAIL_S = 1.0, 10.0


def checks(config: DictConfig, seconds: float = TIMEOUT_S) -> list[Check]:
    """The lines of all nodes, within `seconds` and a little."""
    found: list[Check] = []
    try:
        address = cluster.attached_to(config)
        if address is not None:  # in a process of its own: where nothing answers, ray.init can end this one
            placement.ask(address, config.ray_kwargs.ray_init, None)
    except placement.Unreachable:
        return found  # the line of the cluster says so
    looking = _here if address is None else _everywhere

    def lines() -> Iterator[Check]:
        for line in looking(config, Deadline(seconds)):
            found.append(line)  # at once: what was found before something hangs is shown
        yield from ()

    thread = threading.Thread(target=lambda: found.extend(collect("nodes", lines)), daemon=True)
    thread.start()
    thread.join(seconds + 5)
    if thread.is_alive():
        place = "this machine" if address is None else f"the Ray cluster at {address}"
        return [*found, Check("nodes", "FAIL", f"{place} did not answer within {seconds:.0f} s. Fix: see `ray status`")]
    return found


def _here(config: DictConfig, deadline: Deadline) -> Iterator[Check]:
    """This machine, which will be the only node."""
    room = cluster.own_node(config)
    here = Node("here", socket.gethostname(), "127.0.0.1", room.gpus, room.gpus, room.cpus, 0)
    question = Question(config, here, Driver(platform.python_version(), ""))
    yield from merge({here.name: [finding for name in looks.MACHINE for finding in looks.look(name, question)]})


def _everywhere(config: DictConfig, deadline: Deadline) -> Iterator[Check]:
    """All nodes of the cluster that ray.init attaches to, with the environment that the run will have there."""
    import ray

    given, environment = placement.connecting(config.ray_kwargs.ray_init), worker_env.runtime_env(config)
    with contextlib.ExitStack() as stack:
        marks: dict[str, str] = {}
        try:
            marks = stack.enter_context(folders.marks(config))
            stack.enter_context(worker_env.forward_env(config, visiting=True))
        except (OSError, SecretsError) as error:
            detail = f"the driver cannot write where the run will: {describe(error)}"
            yield Check("nodes: folders", "FAIL", f"{detail}. Fix: {folders.FIX}")
        ray.init(**given, runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR)
        stack.callback(ray.shutdown)
        yield from _visited(config, alive(), _driver(config, environment, marks), deadline)


def alive() -> list[Node]:
    """The nodes of the cluster that Ray believes to be alive."""
    import ray

    found = [node for node in ray.nodes() if node["Alive"]]
    free = ray._private.state.available_resources_per_node()
    named = visit.names([(n["NodeManagerHostname"], n["NodeManagerAddress"], n["NodeID"]) for n in found])
    return [
        Node(
            id=node["NodeID"],
            name=name,
            address=node["NodeManagerAddress"],
            gpus=node["Resources"].get("GPU", 0),
            free_gpus=free.get(node["NodeID"], {}).get("GPU", 0),
            cpus=node["Resources"].get("CPU", 0),
            object_store=node["Resources"].get("object_store_memory", 0),
        )
        for node, name in zip(found, named, strict=True)
    ]


def _driver(config: DictConfig, environment: dict[str, Any], marks: dict[str, str]) -> Driver:
    """This machine, which the nodes compare themselves with; what it cannot read itself is a line already."""
    fingerprints = {}
    for key, path in files.read_by_all(config).items():
        try:
            fingerprints[key] = files.fingerprints(path)
        except OSError:
            continue
    return Driver(
        python=platform.python_version(),
        code=software.sources(),
        environment=software.expected_environment(
            {**worker_env.env_of_config(config).variables, **environment.get("env_vars", {})}
        ),
        files=fingerprints,
        folders=marks,
    )


def _visited(config: DictConfig, nodes: Sequence[Node], driver: Driver, deadline: Deadline) -> Iterator[Check]:
    visitors = {node.id: visit.on(node.id, visit.Visitor) for node in nodes}
    try:
        greeted = visit.gather(
            {id_: v.hello.remote() for id_, v in visitors.items()}, deadline.left(LOOKING * GREETING)
        )
        well = [node for node in nodes if node.id in greeted and greeted[node.id] is None]
        yield from _absent(nodes, greeted)
        if not well:
            return
        yield from merge({node.name: [_clock(visitors[node.id])] for node in well})
        asked = {
            (node.id, name): visitors[node.id].look.remote(name, Question(config, node, driver))
            for node in well
            for name in looks.LOOKS
        }
        came = visit.gather(asked, deadline.left(LOOKING))
    finally:
        visit.end(visitors.values())
    found = {node.name: list(_found(node, came, driver)) for node in well}
    yield from merge(found)
    device = config.trainer.device
    if device in ("cpu", "cuda"):
        yield from collect("nodes: all-reduce", lambda: allreduce.measure(well, device == "cpu", deadline.left()))
    else:
        yield Check("nodes: all-reduce", "warn", f"not done: gloo and NCCL do not serve trainer.device = {device}")


def _absent(nodes: Sequence[Node], greeted: dict[str, Any]) -> Iterator[Check]:
    """Nodes with which nothing can be done, and why; else how many there are."""
    for node in nodes:
        if node.id not in greeted:
            fix = "see whether its raylet still runs (`ray status`), start Ray there again or leave the node out"
            yield Check("nodes", "FAIL", f"{node.name} did not answer in time. Fix: {fix}")
        elif isinstance(greeted[node.id], Exception):
            detail = f"{node.name} starts no process: {describe(greeted[node.id])}"
            yield Check(
                "nodes", "FAIL", f"{detail}. Fix: see the raylet's log in its Ray's folder, session_latest/logs"
            )
        elif greeted[node.id] is not None:
            fix = "install it there as here (bash scripts/setup.sh), and start Ray from that environment"
            yield Check("nodes", "FAIL", f"LongRL cannot be imported on {node.name}: {greeted[node.id]}. Fix: {fix}")
    if all(greeted.get(node.id, "absent") is None for node in nodes):
        yield Check("nodes", "ok", f"{len(nodes)} answered: {', '.join(node.name for node in nodes)}")


def _clock(visitor: Any) -> Finding:
    import ray

    try:
        return clock(*visit.clock_offset(visitor))
    except ray.exceptions.RayError as error:
        return Finding("clock", "FAIL", f"was not told: {describe(error)}")


def clock(offset: float, uncertain: float) -> Finding:
    """A node whose clock is `offset` seconds ahead of the driver's, give or take `uncertain`."""
    certainly = abs(offset) - uncertain
    if certainly <= CLOCK_WARN_S:
        return Finding("clock", "ok", "within {} s of the driver's", (abs(offset) + uncertain,))
    status: Status = "FAIL" if certainly > CLOCK_FAIL_S else "warn"
    way = "ahead of" if offset > 0 else "behind"
    fix = "synchronise it (chrony, systemd-timesyncd): files, tokens and logs go by it"
    return Finding(
        "clock", status, f"{{}} s {way} the driver's, give or take {{}}. Fix: {fix}", (abs(offset), uncertain)
    )


def _found(node: Node, came: dict[tuple[str, str], Any], driver: Driver) -> Iterator[Finding]:
    """What a node found, and the first look that it did not finish."""
    for name in looks.LOOKS:
        answer = came.get((node.id, name))
        if answer is None:
            fix = "a disk or server that it asks hangs, or the time is too short (--timeout)"
            yield Finding(name, "FAIL", f"did not finish in time, nor did what comes after it. Fix: {fix}")
            return
        if isinstance(answer, Exception):
            yield Finding(name, "FAIL", f"this look broke with {describe(answer)}")
            continue
        yield from answer
        if name == "folders" and not answer:
            yield from folders.answered(driver.folders, node.id)
