"""Check a node's hardware: its GPUs against Ray's count, their memory, shared memory, Ray's disk, the clock."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from recipe.longrl.memory import GIB
from recipe.longrl.preflight import nvidia
from recipe.longrl.preflight.check import Check
from recipe.longrl.preflight.nodes.probe_input import ClusterNode, ProbeInput

RAY_FOLDER, SPILLING_FOLDER = "ray_kwargs.ray_init._temp_dir", "ray_kwargs.ray_init.object_spilling_directory"

GPU_MEMORY_USED_SHARE = 0.05
"""Of a GPU's memory. A CUDA context or a display uses less."""
RAY_DISK_FULL_SHARE = 0.95
"""Ray stores no more objects on a file system that is fuller (its local_fs_capacity_threshold)."""
MIN_DISK_GIB = 1.0
MIN_SHARED_MEMORY_GIB = 1.0
"""NCCL's buffers, and weights on their way to vLLM where there is no IPC. Docker's default is 64 MiB."""
CLOCK_BEHIND_S, CLOCK_AHEAD_S = 60.0, 600.0
"""A run compares no clocks, but TLS certificates and logs need the time of day. A probe starts within minutes of the
driver's time, so a clock that is ahead cannot be told from a slow start before that."""


def check_clock(probe_input: ProbeInput) -> Iterator[Check]:
    """A line where the node's clock differs from the driver's."""
    offset = time.time() - probe_input.driver.time
    if not -CLOCK_BEHIND_S < offset < CLOCK_AHEAD_S:
        detail = f"about {abs(offset):,.0f} s {'ahead of' if offset > 0 else 'behind'} the driver's"
        yield Check("clock", "warn", f"{detail}. Fix: synchronize the clocks (chrony, systemd-timesyncd)")


def check_gpus(probe_input: ProbeInput) -> Iterator[Check]:
    """Number, kind and memory in use, as nvidia-smi reports them: Ray hides the GPUs from a worker that asked for none,
    so torch cannot be asked."""
    node = probe_input.node
    if probe_input.config.trainer.device == "cpu":
        yield Check("GPUs", "ok", f"{node.gpus:g} logical devices")
        return
    if not node.gpus:
        yield Check("GPUs", "ok", "none, as Ray reports")
        return
    try:
        gpus = nvidia.query_gpus()
    except nvidia.NvidiaSmiError as error:
        import torch

        if torch.version.cuda is None and (torch.version.hip is not None or hasattr(torch, "npu")):
            yield Check("GPUs", "warn", "not checked: number and memory are known by nvidia-smi only")
            return
        fix = "install the NVIDIA driver, or start the container with GPUs (--gpus all, --nv); see `dmesg`"
        yield Check("GPUs", "FAIL", f"Ray reports {node.gpus:g} GPUs, but {error}. Fix: {fix}")
        return
    if len(gpus) < node.gpus:
        fix = f"find the missing GPU (`dmesg | grep Xid`), or start Ray here with --num-gpus={len(gpus)}"
        yield Check("GPUs", "FAIL", f"Ray reports {node.gpus:g} GPUs, nvidia-smi sees {len(gpus)}. Fix: {fix}")
    else:
        more = f"; nvidia-smi sees {len(gpus)}" if len(gpus) > node.gpus else ""
        yield Check("GPUs", "ok", f"{node.gpus:g}, as Ray reports{more}")
    if gpus:
        kinds, drivers = sorted({gpu.kind for gpu in gpus}), sorted({gpu.driver or "unknown" for gpu in gpus})
        yield Check("GPU kind", "ok", f"{', '.join(kinds)}, driver {', '.join(drivers)}")
        yield _check_gpu_memory(node, gpus)


def _check_gpu_memory(node: ClusterNode, gpus: list[nvidia.Gpu]) -> Check:
    """Memory in use is a failure only where Ray says that all GPUs are free: else it may be another job's."""
    memory_gib = [(g.used / 1024, g.total / 1024) for g in gpus if g.used is not None and g.total is not None]
    if not memory_gib:
        return Check("GPU memory", "warn", "unknown: nvidia-smi does not report it for these GPUs")
    used, total = max(memory_gib)
    if used <= GPU_MEMORY_USED_SHARE * total:
        return Check("GPU memory", "ok", f"{total:.0f} GiB each, not in use")
    processes = ", ".join(nvidia.list_gpu_processes()) or "an unknown process"
    detail = f"{used:.1f} of {total:.0f} GiB of a GPU are in use by {processes}"
    if node.free_gpus < node.gpus or len(gpus) > node.gpus:
        return Check("GPU memory", "warn", f"{detail}, perhaps on a GPU that another job holds")
    fix = "end what an earlier run left behind"
    return Check("GPU memory", "FAIL", f"{detail}, although Ray reports all GPUs as free. Fix: {fix}")


def check_shared_memory(
    probe_input: ProbeInput, disk_usage: Callable[[str], Any] = shutil.disk_usage
) -> Iterator[Check]:
    """Free space in /dev/shm."""
    config, needed = probe_input.config, MIN_SHARED_MEMORY_GIB
    if config.trainer.device == "cpu":
        # Each device receives the weights in two buckets in shared memory.
        bucket_mib = config.actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes
        needed = 2 * bucket_mib * config.trainer.n_gpus_per_node / 1024
    free = disk_usage("/dev/shm").free / GIB
    if free < needed:
        fix = "docker run --shm-size=64g, or --ipc=host; Kubernetes: an emptyDir with medium Memory"
        yield Check("shared memory", "FAIL", f"/dev/shm has {free:.2g} GiB free, needs {needed:.2g}. Fix: {fix}")
    else:
        yield Check("shared memory", "ok", f"/dev/shm has the {needed:.2g} GiB free that a run needs")


def check_ray_disk(probe_input: ProbeInput, disk_usage: Callable[[Path], Any] = shutil.disk_usage) -> Iterator[Check]:
    """Space where Ray writes what its object store has no room for: a full disk stops a run hours later."""
    import ray

    raylet = ray._private.worker._global_node if ray.is_initialized() else None
    session = raylet.get_session_dir_path() if raylet else OmegaConf.select(probe_input.config, RAY_FOLDER)
    folder = Path(OmegaConf.select(probe_input.config, SPILLING_FOLDER) or session or "/tmp/ray").absolute()
    usage = disk_usage(next(path for path in (folder, *folder.parents) if path.exists()))
    detail = f"{folder} has {usage.free / GIB:,.0f} of {usage.total / GIB:,.0f} GiB free"
    if usage.used >= RAY_DISK_FULL_SHARE * usage.total or usage.free < MIN_DISK_GIB * GIB:
        needs = f"Ray needs {MIN_DISK_GIB:.0f} GiB, and a disk that is less than {RAY_DISK_FULL_SHARE:.0%} full"
        fix = "free some space, or choose another disk (`ray start --temp-dir`, object_spilling_directory)"
        yield Check("disk", "FAIL", f"{detail}; {needs}. Fix: {fix}")
    else:
        yield Check("disk", "ok", f"{folder} has space for Ray")
