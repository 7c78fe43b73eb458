"""A node's hardware: GPUs as many, as free and of the kind that Ray says, cores, shared memory, disks, ports."""

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from recipe.longrl.memory import GIB
from recipe.longrl.preflight import nvidia
from recipe.longrl.preflight.check import describe
from recipe.longrl.preflight.nodes.finding import Finding
from recipe.longrl.preflight.nodes.question import Question

USED_SHARE = 0.05  # of a GPU's memory; a CUDA context and what a display takes are less
CORES_PER_GPU = 2  # trainer and vLLM of a GPU compute on one each
RAY_FULL = 0.95  # Ray stops storing objects when its session's file system is fuller (local_fs_capacity_threshold)
DISK_FAIL_GIB, DISK_WARN_GIB, SHARED_MEMORY_GIB = 1, 10, 1


def gpus(question: Question) -> Iterator[Finding]:
    """Count, kind, driver and memory, as nvidia-smi says: Ray hides the GPUs from a worker that was given none."""
    node, device = question.node, question.config.trainer.device
    if device == "cpu":
        yield Finding("GPUs", "ok", "{} logical devices", (node.gpus,))
        return
    if not node.gpus:
        yield Finding("GPUs", "ok", "none, as Ray says")
        return
    try:
        answer = nvidia.ask()
    except nvidia.NoAnswer as error:
        if _other_vendor():
            yield Finding("GPUs", "warn", "not looked at: neither count nor memory is known without nvidia-smi")
            return
        fix = "install the NVIDIA driver, or start the container with GPUs (--gpus all, --nv); `dmesg` may say more"
        yield Finding("GPUs", "FAIL", f"Ray says {node.gpus:g}, but {error}. Fix: {fix}")
        return
    cards, also = answer.cards, f"; it also says: {'; '.join(answer.said)}" if answer.said else ""
    if len(cards) < node.gpus:
        yield Finding(
            "GPUs",
            "FAIL",
            f"Ray says {node.gpus:g}, nvidia-smi shows {len(cards)}{also}. Fix: look for it (`dmesg | grep Xid`), or "
            f"start Ray here with --num-gpus={len(cards)}",
        )
    else:
        more = f"; nvidia-smi shows {len(cards)}" if len(cards) > node.gpus else ""
        yield Finding("GPUs", "warn" if also else "ok", f"{node.gpus:g}, as Ray says{more}{also}")
    yield Finding("GPU type", "ok", ", ".join(sorted({card.name for card in cards})) or "unknown", uniform=True)
    yield Finding("GPU driver", "ok", ", ".join(answer.drivers) or "unknown", uniform=True)
    yield _gpu_memory(question, cards)


def _gpu_memory(question: Question, cards: list[nvidia.Card]) -> Finding:
    """What others use is a failure where Ray says that all GPUs are free."""
    gib = [(c.used / 1024, c.total / 1024) for c in cards if c.used is not None and c.total is not None]
    unknown = len(cards) - len(gib)
    silent = f"nvidia-smi does not say it for {unknown} of {len(cards)} GPUs" if unknown else ""
    if not gib:
        return Finding("GPU memory", "warn", f"unknown: {silent or 'there is no GPU'}")
    used, total = max(gib)
    if used <= USED_SHARE * total:
        detail = "{} GiB each, at most {} GiB used" + (f"; {silent}" if silent else "")
        return Finding("GPU memory", "warn" if silent else "ok", detail, (min(total for _, total in gib), used))
    node = question.node
    named = ", ".join(nvidia.users()) or "no process it can name"
    detail = f"{{}} of {{}} GiB of a GPU are used; nvidia-smi shows {named}"
    if node.free_gpus < node.gpus or len(cards) > node.gpus:
        detail = f"{detail}, perhaps on GPUs that are another job's"
        return Finding("GPU memory", "warn", detail, (used, total))
    detail = f"{detail}, and Ray says that all are free. Fix: end what an earlier run left"
    return Finding("GPU memory", "FAIL", detail, (used, total))


def _other_vendor() -> bool:
    import torch

    return torch.version.cuda is None and (torch.version.hip is not None or hasattr(torch, "npu"))


def cores(question: Question) -> Iterator[Finding]:
    """Cores that this node's processes may use, and whether something computes on them."""
    may, there, (load, *_) = _usable_cores(), os.cpu_count() or 1, os.getloadavg()
    detail, values = "{} cores to use, load {} on {}", (may, load, there)
    gpus = question.node.gpus if question.config.trainer.device != "cpu" else 0
    if may < CORES_PER_GPU * gpus:
        fix = f"give them {CORES_PER_GPU * gpus:g} or more (sbatch --cpus-per-task, docker --cpus)"
        yield Finding("cores", "warn", f"{detail}: few for {gpus:g} GPUs. Fix: {fix}", values)
    elif load > there:
        yield Finding("cores", "warn", f"{detail}: something else computes there", values)
    else:
        yield Finding("cores", "ok", detail, values)


def _usable_cores() -> float:
    """Cores this process may run on, by affinity and by its control group's quota."""
    cores = float(len(os.sched_getaffinity(0)))
    limit = Path("/sys/fs/cgroup/cpu.max")
    if limit.is_file():
        quota, period = limit.read_text().split()
        if quota != "max":
            cores = min(cores, int(quota) / int(period))
    return cores


def shared_memory(question: Question, disk_usage: Callable[[str], Any] = shutil.disk_usage) -> Iterator[Finding]:
    """Room in /dev/shm: NCCL's, weights on their way to vLLM where there is no IPC, and Ray's object store."""
    config, needed = question.config, float(SHARED_MEMORY_GIB)
    if config.trainer.device == "cpu":
        bucket = config.actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes
        needed = 2 * bucket * config.trainer.n_gpus_per_node / 1024
    usage, fix = (
        disk_usage("/dev/shm"),
        "docker run --shm-size, or --ipc=host; Kubernetes: an emptyDir of medium Memory",
    )
    free, total = usage.free / GIB, usage.total / GIB
    if free < needed:
        detail = f"/dev/shm has {{}} of {{}} GiB free, {needed:.2g} needed. Fix: {fix}"
        yield Finding("shared memory", "FAIL", detail, (free, total))
    elif question.node.object_store > usage.total:
        detail = f"/dev/shm has {{}} GiB, less than Ray's object store of {{}}, which is then on disk. Fix: {fix}"
        yield Finding("shared memory", "warn", detail, (total, question.node.object_store / GIB))
    else:
        yield Finding("shared memory", "ok", "/dev/shm has {} of {} GiB free", (free, total))


def disks(question: Question, disk_usage: Callable[[Path], Any] = shutil.disk_usage) -> Iterator[Finding]:
    """Room where a run writes on every node: one line for each file system."""
    seen: set[int] = set()
    written, store = _written(question.config), question.node.object_store
    for what, folder in written.items():
        existing = next(p for p in (folder, *folder.parents) if p.exists())
        device = existing.stat().st_dev
        if device in seen:
            continue
        seen.add(device)
        usage = disk_usage(existing)
        detail, values = f"{folder} ({what}) has {{}} of {{}} GiB free", (usage.free / GIB, usage.total / GIB)
        full = what in (RAYS, SPILLED) and usage.used >= RAY_FULL * usage.total
        if full or usage.free < DISK_FAIL_GIB * GIB:
            why = f", and Ray stores nothing on one that is {RAY_FULL:.0%} full" if full else ""
            fix = "free some, or set TMPDIR, HF_HOME or `ray start --temp-dir` to a larger disk"
            yield Finding("disk", "FAIL", f"{detail}{why}. Fix: {fix}", values)
        elif what == (SPILLED if SPILLED in written else RAYS) and usage.free < store:
            fix = "free some, or give Ray a larger disk (object_spilling_directory) or a smaller object_store_memory"
            detail = f"{detail}, less than Ray's object store of {{}}, which goes there when it is full. Fix: {fix}"
            yield Finding("disk", "warn", detail, (*values, store / GIB))
        else:
            yield Finding("disk", "warn" if usage.free < DISK_WARN_GIB * GIB else "ok", detail, values)


RAYS, SPILLED = "Ray's session", "what Ray's object store has no room for"
RAY_FOLDER = "ray_kwargs.ray_init._temp_dir"


def _written(config: DictConfig) -> dict[str, Path]:
    """What for -> the folder."""
    import ray
    from huggingface_hub.constants import HF_HOME
    from verl_longrl.data.prompt_lengths import CACHE_DIR

    raylet = ray._private.worker._global_node if ray.is_initialized() else None
    spilled = OmegaConf.select(config, "ray_kwargs.ray_init.object_spilling_directory")
    folders = {
        **({SPILLED: Path(spilled)} if spilled else {}),
        RAYS: Path(raylet.get_session_dir_path() if raylet else OmegaConf.select(config, RAY_FOLDER) or "/tmp/ray"),
        "temporary files": Path(tempfile.gettempdir()),
        "Hugging Face's cache": Path(HF_HOME),
        "prompt lengths": Path(config.data.get("cache_dir") or CACHE_DIR),
        "vLLM's cache": Path(os.environ.get("VLLM_CACHE_ROOT") or "~/.cache/vllm"),
    }
    return {what: folder.expanduser().absolute() for what, folder in folders.items()}


FIXED_PORTS = {
    "transfer_queue.metrics.port": "transfer_queue.metrics.enabled",
    "actor_rollout_ref.rollout.disaggregation.bootstrap_port": "actor_rollout_ref.rollout.disaggregation.enabled",
}
"""Keys of ports that a run opens where the key beside them is true; all its others are ones that are free."""


def ports(question: Question) -> Iterator[Finding]:
    """A free port can be had at the node's own address, and the configured ones are free."""
    config, address = question.config, question.node.address
    wanted = {key: OmegaConf.select(config, key) for key, on in FIXED_PORTS.items() if OmegaConf.select(config, on)}
    wanted = {f"{key} = {port}": port for key, port in wanted.items() if port}
    problems = [
        f"{what} cannot be opened at {address}: {problem}"
        for what, port in {"a free port": 0, **wanted}.items()
        if (problem := _refused(address, port)) is not None
    ]
    given = os.environ.get("VLLM_PORT", "0")
    if not given.isdigit():  # Kubernetes sets it for a service named vllm
        problems.append(f"VLLM_PORT = {given} is no number, and vLLM will refuse it; unset it or rename the service")
    if problems:
        yield Finding("ports", "FAIL", f"{'; '.join(problems)}. Fix: end what holds it (`ss -ltnp`), or choose another")
    else:
        yield Finding("ports", "ok", ", ".join(["a free port can be opened", *wanted]))


def _refused(address: str, port: int) -> str | None:
    """Why a port cannot be opened; None if it can."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, port))
    except (OSError, OverflowError) as error:
        return describe(error)
    return None
