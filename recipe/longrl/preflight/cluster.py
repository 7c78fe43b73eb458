"""Check that Ray has room for the run: every placement group fits on a node, with its GPUs and CPUs.

verl calls `ray.init(**ray_kwargs.ray_init)`. It joins a running cluster (RAY_ADDRESS, else one that `ray start` left on
this machine, if nobody else can have written its address) and otherwise starts its own Ray here. This check does the
same. Without it, verl would wait for a placement group that fits nowhere, without a message.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import DictConfig
from verl_longrl.trainer.write_access import writable_by_others

from recipe.longrl import worker_env
from recipe.longrl.preflight import placement
from recipe.longrl.preflight.check import Check, describe
from recipe.longrl.preflight.placement import (
    CPUS_PER_GPU,
    ClusterState,
    ClusterUnreachable,
    NodeResources,
    PlacementRequest,
)


def check_cluster(config: DictConfig, dry_run: bool) -> Iterator[Check]:
    """One line: where the run would be placed, or why it would not. dry_run: what other jobs hold now, and what this
    machine lacks, is a warning."""
    ray_init, request = config.ray_kwargs.ray_init, placement_request(config)
    try:
        address = cluster_to_join(config)
        if address is None:
            state = ClusterState([this_machine(config)])
        else:
            wait_s = 0.0 if dry_run else placement.FREE_TIMEOUT_S
            state = placement.query_cluster(address, ray_init, request, wait_s)
    except ClusterUnreachable as error:
        fix = (
            "correct RAY_ADDRESS or unset it; `ray stop` removes what a dead cluster left behind; RAY_ADDRESS=local "
            "starts a new Ray here"
        )
        yield Check("cluster", "FAIL", f"{error}. Fix: {fix}")
        return
    refused = [key for key in worker_env.SIZES if ray_init.get(key) is not None]
    if address is not None and refused:
        fix = f"{' '.join(f'ray_kwargs.ray_init.{key}=null' for key in refused)}; or RAY_ADDRESS=local; or `ray stop`"
        detail = f"a Ray cluster runs at {address}, and ray.init refuses {', '.join(refused)} when it attaches to one"
        yield Check("cluster", "FAIL", f"{detail}. Fix: {fix}")
        return
    kind = "logical devices" if config.trainer.device == "cpu" else "GPUs"
    groups = " + ".join(f"{request.groups.count(n)} x {n}" for n in dict.fromkeys(request.groups))
    place = "the Ray started here" if address is None else f"the Ray cluster at {address}"
    resources = ", ".join(f"{node.gpus:g} {kind} and {node.cpus:g} CPUs" for node in state.nodes) or "no node"
    detail = f"needs {groups} {kind} (nodes x each) and {request.cpus} Ray CPUs; {place} has {resources}"
    if (shortage := _find_shortage(config, request, state.nodes, kind, started_here=address is None)) is not None:
        if dry_run and address is None and config.trainer.device != "cpu":
            # This machine says nothing about the one that will train.
            yield Check("cluster", "warn", f"{detail}: fine for a dry run; for training, {shortage}")
        else:
            yield Check("cluster", "FAIL", f"{detail}. Ray would wait forever for these resources: {shortage}")
    elif not placement.fits(request, [(node.free_gpus, node.free_cpus) for node in state.nodes]):
        yield Check("cluster", "warn" if dry_run else "FAIL", f"{detail}; {_describe_taken(state, kind)}")
    else:
        yield Check("cluster", "ok", detail)


def cluster_to_join(config: DictConfig) -> str | None:
    """Address of the running cluster that ray.init will join; None if it will start its own.

    Raises ClusterUnreachable when the address is `auto` and nothing runs.
    """
    from ray._private.services import get_ray_address_from_environment

    ray_init = config.ray_kwargs.ray_init
    address = ray_init.get("address")
    if not_joined(config) is not None:
        return None
    if address in (None, "auto"):
        try:
            address = get_ray_address_from_environment(address, ray_init.get("_temp_dir"))
        except ConnectionError as error:
            raise ClusterUnreachable(describe(error)) from error
    return None if address == "local" else address


def not_joined(config: DictConfig) -> str | None:
    """Why the run does not join a cluster whose address `ray start` seems to have left on this machine; None if there
    is no such address, or it can be trusted.

    Anybody can create /tmp/ray/ray_current_cluster, and the owner of a cluster can run code in a driver that joins it.
    """
    from ray._private.utils import get_ray_address_file

    ray_init = config.ray_kwargs.ray_init
    file = Path(get_ray_address_file(ray_init.get("_temp_dir")))
    if os.environ.get("RAY_ADDRESS") or ray_init.get("address") is not None or not file.exists():
        return None
    return writable_by_others(file)


def starts_own_ray(config: DictConfig) -> bool:
    """Whether ray.init will start its own Ray on this machine."""
    try:
        return cluster_to_join(config) is None
    except ClusterUnreachable:
        return False


def this_machine(config: DictConfig) -> NodeResources:
    """This machine as the Ray that ray.init starts here will see it."""
    ray_init = config.ray_kwargs.ray_init
    cpus, gpus = ray_init.get("num_cpus") or os.cpu_count() or 1, ray_init.get("num_gpus")
    if config.trainer.device == "cpu":
        gpus = gpus or 0
    elif gpus is None:
        import torch

        gpus = torch.cuda.device_count()
    return NodeResources("this machine", gpus, cpus, gpus, cpus)


def placement_request(config: DictConfig) -> PlacementRequest:
    """The resources that verl asks Ray for: a placement group for each node of the trainer, and of a judge served by
    verl; one CPU for each storage unit, for the controllers and for the driver."""
    judge = config.reward.reward_model
    groups = [config.trainer.n_gpus_per_node] * config.trainer.nnodes
    if judge.enable and judge.enable_resource_pool:
        groups += [judge.n_gpus_per_node] * judge.nnodes
    return PlacementRequest(groups, config.transfer_queue.backend.SimpleStorage.num_data_storage_units + 2)


def _find_shortage(
    config: DictConfig, request: PlacementRequest, nodes: Sequence[NodeResources], kind: str, started_here: bool
) -> str | None:
    """The resource of which there is too little in total, and the fix; None if all placement groups find a node."""
    gpus, cpus = sum(node.gpus for node in nodes), sum(node.cpus for node in nodes)
    if gpus < sum(request.groups):
        if config.trainer.device == "cpu":
            return f"too few {kind}. Fix: ray_kwargs.ray_init.num_gpus={sum(request.groups)}"
        fix = "run on a cluster (RAY_ADDRESS) or choose another hardware=... group (cpu needs no GPU)"
        return f"too few {kind}. Fix: {fix}"
    if cpus < request.cpus:
        fix = f"ray_kwargs.ray_init.num_cpus={request.cpus}" if started_here else "a larger `ray start --num-cpus`"
        return f"too few CPUs. Fix: {fix} (Ray counts tickets, not cores)"
    if unplaced := placement.unplaced_groups(request.groups, [(node.gpus, node.cpus) for node in nodes]):
        groups = " and ".join(f"{n} {kind} with {CPUS_PER_GPU * n} CPUs" for n in unplaced)
        fix = "set trainer.nnodes and trainer.n_gpus_per_node as the nodes are"
        return f"no node has room for {groups}, and a placement group lies on one node. Fix: {fix}"
    return None


def _describe_taken(state: ClusterState, kind: str) -> str:
    """The resources that are free, and the jobs that are connected."""
    free = ", ".join(
        f"{node.node} has {node.free_gpus:g} of {node.gpus:g} {kind} and {node.free_cpus:g} of {node.cpus:g} CPUs free"
        for node in state.nodes
    )
    jobs = f". Connected: {'; '.join(state.jobs)}" if state.jobs else ""
    fix = "end them or wait, or choose a smaller hardware=... group"
    return f"Ray would wait for other jobs to release resources: {free}{jobs}. Fix: {fix}"
