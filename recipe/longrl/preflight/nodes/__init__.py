"""Checks run on every node of the Ray cluster: hardware, software, shared folders, input files, all-reduce.

A process on each node compares the node with the driver's machine, with what Ray reports and with what the run needs
(`probes.py` lists the checks). Then one process for each GPU takes part in a small all-reduce. All of it shares one
time limit, and a node that does not respond is named. Where the run starts its own Ray, this machine is the only node,
and its hardware is checked without Ray.
"""

import contextlib
import logging
import platform
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig
from verl_longrl.secrets import SecretsError

from recipe.longrl import worker_env
from recipe.longrl.preflight import cluster, placement
from recipe.longrl.preflight.check import Check, collect, describe
from recipe.longrl.preflight.nodes import all_reduce, input_files, node_tasks, probes, shared_folders, software, summary
from recipe.longrl.preflight.nodes.probe_input import ClusterNode, DriverFacts, ProbeInput

TIMEOUT_S = 120.0
PROBE_SHARE = 0.7
"""Of the time limit, for the probes; the rest is for the all-reduce."""


def check_nodes(config: DictConfig, seconds: float = TIMEOUT_S) -> list[Check]:
    """The lines of all nodes, within about `seconds`."""
    try:
        address = cluster.cluster_to_join(config)
        if address is None:
            return _check_this_machine(config, seconds)
        # ray.init ends the process where nothing answers, so another process connects first.
        placement.query_cluster(address, config.ray_kwargs.ray_init, cluster.placement_request(config))
    except placement.ClusterUnreachable:
        # `cluster.check_cluster` reports it.
        return []
    return collect("nodes", lambda: _check_cluster_nodes(config, seconds))


def _check_this_machine(config: DictConfig, seconds: float) -> list[Check]:
    gpus = cluster.this_machine(config).gpus
    node = ClusterNode("here", socket.gethostname(), gpus, gpus)
    checks = probes.run_probes(ProbeInput(config, node, DriverFacts()), seconds, probes.HARDWARE)
    return list(summary.merge_node_checks({node.name: checks}))


def _check_cluster_nodes(config: DictConfig, seconds: float) -> Iterator[Check]:
    """The lines of all nodes of the cluster, whose probes run in the environment that the run's workers will have."""
    import ray

    connection = placement.connection_arguments(config.ray_kwargs.ray_init)
    environment = worker_env.runtime_env(config)
    with contextlib.ExitStack() as stack:
        folders: dict[str, str] = {}
        try:
            folders = stack.enter_context(shared_folders.driver_files(config))
            stack.enter_context(worker_env.forward_env(config, visiting=True))
        except (OSError, SecretsError) as error:
            detail = f"the driver cannot write to the run's folders: {describe(error)}. Fix: {shared_folders.FIX}"
            yield Check("nodes: folders", "FAIL", detail)
        ray.init(**connection, runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR)
        stack.callback(ray.shutdown)
        files = input_files.digest_all(config)
        driver = DriverFacts(platform.python_version(), software.digest_sources(), time.time(), files, folders)
        nodes, ends = list_alive_nodes(), time.monotonic() + seconds
        references = {}
        for node in nodes:
            arguments = ProbeInput(config, node, driver), 0.95 * PROBE_SHARE * seconds
            references[node.id] = node_tasks.start_on_node(node.id, probes.run_all_probes, *arguments)
        results = node_tasks.wait_for_results(references, PROBE_SHARE * seconds)
        yield from summarize_results(nodes, results, folders)
        responding = [node for node in nodes if isinstance(results.get(node.id), list)]
        if (device := config.trainer.device) in ("cpu", "cuda"):
            yield all_reduce.check_all_reduce(responding, device == "cpu", ends - time.monotonic())
        else:
            yield Check("nodes: all-reduce", "warn", f"skipped: trainer.device = {device} has neither gloo nor NCCL")


def list_alive_nodes() -> list[ClusterNode]:
    """The nodes of the cluster that Ray believes to be alive."""
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]
    free = ray._private.state.available_resources_per_node()
    hosts = [f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})" for node in nodes]
    alive = []
    for node, host in zip(nodes, hosts, strict=True):
        node_id, total = node["NodeID"], node["Resources"]
        name = host if hosts.count(host) == 1 else f"{host[:-1]}, node {node_id[:8]})"
        gpus, free_gpus = (resources.get("GPU", 0) for resources in (total, free.get(node_id, {})))
        alive.append(ClusterNode(node_id, name, gpus, free_gpus))
    return alive


def summarize_results(
    nodes: Sequence[ClusterNode], results: Mapping[str, Any], folders: Mapping[str, str]
) -> Iterator[Check]:
    """The table's lines. results: id of a node -> what `run_probes` returned or raised there, if it has ended."""
    checks_of_nodes: dict[str, list[Check]] = {}
    for node in nodes:
        result = results.get(node.id)
        if result is None:
            fix = "see whether its raylet runs (`ray status`), restart Ray there or leave the node out"
            yield Check("nodes", "FAIL", f"{node.name} did not respond in time. Fix: {fix}")
        elif isinstance(result, Exception):
            fix = (
                "if LongRL cannot be imported there, install it (bash scripts/setup.sh) and start Ray from that "
                "environment; else see the raylet's log there (session_latest/logs in Ray's folder)"
            )
            detail = f"could not start a process on {node.name}: {describe(result)}"
            yield Check("nodes", "FAIL", f"{detail}. Fix: {fix}")
        else:
            checks_of_nodes[node.name] = result
            if not any(check.name == "folders" for check in result):
                result.extend(shared_folders.check_files_of_node(folders, node.id))
    if len(checks_of_nodes) == len(nodes):
        yield Check("nodes", "ok", f"{len(nodes)} responded: {', '.join(checks_of_nodes)}")
    yield from summary.merge_node_checks(checks_of_nodes)
