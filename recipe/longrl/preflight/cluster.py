"""Whether Ray can place the run: every placement group finds a node with its GPUs and CPUs.

verl calls `ray.init(**ray_kwargs.ray_init)`, which attaches to a running cluster (RAY_ADDRESS, else one that
`ray start` left on this machine, if nobody else can have) and otherwise starts a Ray of its own here; the same is
looked at. A placement group that fits nowhere would be waited for, without a word.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig
from verl_longrl.trainer.write_access import writable_by_others

from recipe.longrl import worker_env
from recipe.longrl.preflight import nvidia, placement
from recipe.longrl.preflight.check import Check, describe
from recipe.longrl.preflight.placement import CPUS_PER_GPU, Answer, Room, Unreachable, Wanted


def checks(config: DictConfig, dry_run: bool) -> Iterator[Check]:
    """One line: where the run would be placed, or why it would not."""
    try:
        address = attached_to(config)
        answer = Answer([own_node(config)]) if address is None else _asked(config, address, dry_run)
    except Unreachable as error:
        yield Check(
            "cluster",
            "FAIL",
            f"{error}. Fix: correct RAY_ADDRESS or unset it; what a dead cluster left behind, `ray stop` removes; "
            "RAY_ADDRESS=local starts a Ray of its own",
        )
        return
    given = [key for key in worker_env.SIZES if config.ray_kwargs.ray_init.get(key) is not None]
    if address is not None and given:
        yield Check(
            "cluster",
            "FAIL",
            f"a Ray cluster runs at {address}, and ray.init refuses {', '.join(given)} when it attaches to one. Fix: "
            f"{' '.join(f'ray_kwargs.ray_init.{key}=null' for key in given)}; or RAY_ADDRESS=local, for a Ray of its "
            "own; or `ray stop`",
        )
        return
    yield _fit(config, answer, address, dry_run)


def attached_to(config: DictConfig) -> str | None:
    """Address of the running cluster that ray.init will attach to; None if it will start one.

    Raises Unreachable when the address is `auto` and nothing runs.
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
            raise Unreachable(describe(error)) from error
    return None if address == "local" else address


def not_joined(config: DictConfig) -> str | None:
    """Why the cluster that `ray start` is said to have left here is not joined, in words; None if there is none such.

    Anybody can leave that file in /tmp/ray, and whoever owns a cluster runs code in what joins it.
    """
    from ray._private.utils import get_ray_address_file

    ray_init = config.ray_kwargs.ray_init
    file = Path(get_ray_address_file(ray_init.get("_temp_dir")))
    if os.environ.get("RAY_ADDRESS") or ray_init.get("address") is not None or not file.exists():
        return None
    return writable_by_others(file)


def starts_here(config: DictConfig) -> bool:
    """Whether ray.init will start a Ray of its own on this machine."""
    try:
        return attached_to(config) is None
    except Unreachable:
        return False


def _asked(config: DictConfig, address: str, dry_run: bool) -> Answer:
    """The running cluster's answer; a dry run takes up no room in it, not even for a moment."""
    return placement.ask(address, config.ray_kwargs.ray_init, None if dry_run else wanted(config))


def own_node(config: DictConfig) -> Room:
    """This machine as the Ray that ray.init starts here will see it."""
    ray_init = config.ray_kwargs.ray_init
    cpus, gpus = ray_init.get("num_cpus") or os.cpu_count() or 1, ray_init.get("num_gpus")
    if config.trainer.device == "cpu":
        gpus = gpus or 0
    elif gpus is None:
        import torch

        gpus = torch.cuda.device_count()
    return Room("this machine", gpus, cpus, gpus, cpus)


def wanted(config: DictConfig) -> Wanted:
    """What verl asks Ray for: a placement group per node of the trainer, and of a judge served by verl; a CPU per
    storage unit, two controllers' and the driver's."""
    judge = config.reward.reward_model
    groups = [config.trainer.n_gpus_per_node] * config.trainer.nnodes
    if judge.enable and judge.enable_resource_pool:
        groups += [judge.n_gpus_per_node] * judge.nnodes
    return Wanted(groups, config.transfer_queue.backend.SimpleStorage.num_data_storage_units + 2)


def _fit(config: DictConfig, answer: Answer, address: str | None, dry_run: bool) -> Check:
    needs, on_cpu = wanted(config), config.trainer.device == "cpu"
    kind = "logical devices" if on_cpu else "GPUs"
    place = "the Ray started here" if address is None else f"the Ray cluster at {address}"
    have = ", ".join(f"{room.gpus:g} {kind} and {room.cpus:g} CPUs" for room in answer.rooms) or "no node"
    shape = " + ".join(f"{needs.groups.count(n)} x {n}" for n in dict.fromkeys(needs.groups))
    detail = f"needs {shape} {kind} (nodes x each) and {needs.cpus} Ray CPUs; {place} has {have}"
    problem = _shortage(config, answer.rooms, kind, started_here=address is None)
    if problem is None:
        problem = _taken(needs, answer, kind)
        if problem is not None and dry_run:  # by the time of the run it may be free
            return Check("cluster", "warn", f"{detail}; {problem}")
    if problem is None:
        return Check("cluster", "ok", detail)
    if dry_run and address is None and not on_cpu:  # which says nothing about the machine that will train
        return Check("cluster", "warn", f"{detail}: fine for a dry run; to train, {problem}")
    return Check("cluster", "FAIL", f"{detail}; the placement would wait for ever: {problem}")


def _shortage(config: DictConfig, rooms: list[Room], kind: str, started_here: bool) -> str | None:
    """What there is too little of in all, and the fix; None if all placement groups find a node."""
    needs = wanted(config)
    if sum(room.gpus for room in rooms) < sum(needs.groups):
        fix = "run on a cluster (RAY_ADDRESS) or choose another hardware=... group (cpu needs no GPU)"
        if started_here and config.trainer.device == "cuda" and (hidden := _hidden(sum(room.gpus for room in rooms))):
            return hidden
        if config.trainer.device == "cpu":
            fix = f"set ray_kwargs.ray_init.num_gpus={sum(needs.groups)}"
        return f"too few {kind}, {fix}"
    if sum(room.cpus for room in rooms) < needs.cpus:
        fix = (
            f"set ray_kwargs.ray_init.num_cpus={needs.cpus}" if started_here else "give `ray start` a larger --num-cpus"
        )
        return f"too few CPUs, {fix} (tickets, not cores)"
    if left := placement.unplaced(needs.groups, [(room.gpus, room.cpus) for room in rooms]):
        return (
            f"no node has room for {' and '.join(f'{n} {kind} with {CPUS_PER_GPU * n} CPUs' for n in left)}, and a "
            "placement group lies on one node; set trainer.nnodes and trainer.n_gpus_per_node as the nodes are"
        )
    return None


def _hidden(seen: float) -> str | None:
    """Why torch does not see GPUs that this machine has; None if it has no more than torch sees."""
    import torch

    try:
        answer = nvidia.ask()
    except nvidia.NoAnswer:
        return None
    if len(answer.cards) <= seen:
        return None
    why = nvidia.driver_problem(answer, torch.version.cuda)
    if torch.version.cuda is None:
        why = "it is built without CUDA. Fix: bash scripts/setup.sh gpu"
    elif visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        why = why or f"CUDA_VISIBLE_DEVICES = {visible}"
    return f"torch sees {seen:g} of the {len(answer.cards)} GPUs that nvidia-smi shows: {why or 'see `dmesg`'}"


def _taken(needs: Wanted, answer: Answer, kind: str) -> str | None:
    """What another job holds, and which; None if Ray placed the run or, untried, has room for it now."""
    free = [(room.free_gpus, room.free_cpus) for room in answer.rooms]
    fits = placement.fits(needs, free)
    if answer.placed or (answer.placed is None and fits):
        return None
    held = ", ".join(
        f"{room.node} has {room.free_gpus:g} of {room.gpus:g} {kind} and {room.free_cpus:g} of {room.cpus:g} CPUs free"
        for room in answer.rooms
    )
    if fits:
        return f"Ray has not placed it within {placement.TRY_TIMEOUT_S:.0f} s, though {held}; `ray status` may say why"
    jobs = f". Connected: {'; '.join(answer.jobs)}" if answer.jobs else ""
    fix = "end them or wait, or choose a smaller hardware=... group"
    return f"taken by other jobs at the moment: {held}{jobs}. Fix: {fix}"
