"""The CPU as a verl platform: N logical devices on one machine, so that every distributed path runs without a GPU.

verl requests accelerators as Ray's "GPU" resource. This platform keeps that name, and the launcher starts Ray with
`num_gpus=N` logical GPUs, so verl's placement code runs unchanged: N trainer ranks and N vLLM replicas share the
machine's cores. Collectives use gloo, and weights reach vLLM through shared memory.

It is selected automatically where there is no accelerator. `VERL_PLATFORM=cpu` forces it, and hardware=cpu passes that
variable to every Ray worker. A Ray worker that was assigned no device sees none (reward workers, a task runner on a
head node without GPUs), which says nothing about the run. So in Ray workers only torch's build decides: a build without
support for accelerators always uses the CPU, any other leaves the choice to verl.
"""

import ctypes
import os
import resource
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

import psutil
import torch
from verl.plugin.platform import PlatformBase, PlatformRegistry


def torch_has_no_accelerator() -> bool:
    """True if this torch build supports no accelerator at all (CUDA, ROCm or Ascend)."""
    return torch.version.cuda is None and torch.version.hip is None and not hasattr(torch, "npu")


def no_accelerator_here() -> bool:
    """True in a process outside of Ray workers that finds no accelerator. verl asks its own platforms first, which run
    nvidia-smi or rocm-smi, so devices that CUDA_VISIBLE_DEVICES hides count as present."""
    return "RAY_RAYLET_PID" not in os.environ and not torch.accelerator.is_available()


def return_freed_memory() -> None:
    """Give the free pages of all heaps back to the system, at any place in them: what `empty_cache` is on the CPU.

    glibc itself returns only the free memory at the end of a heap, and one block that stays (a moment of AdamW) keeps
    everything before it from being the end. verl calls `empty_cache` when it transfers weights to vLLM, which then
    generates while the trainer holds what is in use. There is no effect without glibc.
    """
    if trim := _malloc_trim():
        trim(0)


@cache
def _malloc_trim() -> Any:
    """glibc's function; None with another C library."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim.argtypes = [ctypes.c_size_t]
    return trim


class _CpuDevice(str):
    """The current device, for both of verl's uses: `x.to(device)` and `f"cpu:{device}"`."""

    def __new__(cls) -> "_CpuDevice":
        return super().__new__(cls, "cpu")

    def __format__(self, spec: str) -> str:
        return "0"


class _CpuModule(ModuleType):
    """`torch.cpu` with the memory and RNG functions of `torch.cuda`; memory is this process's resident set."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cpu, name)

    get_rng_state = staticmethod(lambda device="cpu": torch.get_rng_state())
    set_rng_state = staticmethod(lambda state, device="cpu": torch.set_rng_state(state))
    manual_seed = manual_seed_all = staticmethod(torch.manual_seed)
    get_device_name = staticmethod(lambda device=None: "cpu")

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def memory_allocated(device: Any = None) -> int:
        return psutil.Process().memory_info().rss

    memory_reserved = memory_allocated

    @staticmethod
    def max_memory_allocated(device: Any = None) -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    max_memory_reserved = max_memory_allocated

    @staticmethod
    def mem_get_info(device: Any = None) -> tuple[int, int]:
        memory = psutil.virtual_memory()
        return memory.available, memory.total

    empty_cache = staticmethod(return_freed_memory)

    @staticmethod
    def ipc_collect() -> None: ...

    reset_peak_memory_stats = ipc_collect


@PlatformRegistry.register("cpu")
class PlatformCPU(PlatformBase):
    """verl's hardware interface on a CPU; see the module's docstring."""

    device_name = "cpu"
    vendor_name = "cpu"
    device_module = _CpuModule("torch.cpu")

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        return torch_has_no_accelerator() or no_accelerator_here()

    def current_device(self) -> Any:
        return _CpuDevice()

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None: ...

    def synchronize(self, device_index: int | None = None) -> None: ...

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None: ...

    def empty_cache(self) -> None:
        return_freed_memory()

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"  # Ray sets it for its "GPU" resource, here the logical device

    @contextmanager
    def nvtx_range(self, msg: str):
        yield

    def profiler_start(self) -> None: ...

    def profiler_stop(self) -> None: ...

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return []

    def is_ipc_supported(self) -> bool:
        return False  # there are no device memory handles, so verl sends weights through shared memory

    def cudart(self) -> None:
        return None


def patch_duplicate_backend() -> None:
    """Let verl open its process group on a CPU.

    `verl.utils.distributed` requests f"cpu:gloo,{device}:{backend}", here "cpu:gloo,cpu:gloo", and torch refuses a
    device that is named twice. The patch has no effect, and can be deleted, once verl names each device once.
    """
    original = torch.distributed.init_process_group
    if getattr(original, "names_devices_once", False):
        return

    def init_process_group(backend: str | None = None, *args: Any, **kwargs: Any) -> None:
        if backend is not None and "," in backend:
            backend = ",".join(dict.fromkeys(backend.split(",")))
        return original(backend, *args, **kwargs)

    init_process_group.names_devices_once = True  # type: ignore[attr-defined]
    torch.distributed.init_process_group = init_process_group


def patch_pinned_offload() -> None:
    """Let a reference policy (KL loss) be sharded on a CPU.

    verl's FSDP2 engine offloads it with `CPUOffloadPolicy(pin_memory=True)`, and torch refuses to pin memory where
    there is no accelerator. The patch can be deleted once verl leaves the choice to the platform.
    """
    from torch.distributed.fsdp import CPUOffloadPolicy as policy

    if getattr(policy, "pins_nothing", False):
        return
    original = policy.__init__

    def __init__(self: Any, pin_memory: bool = False) -> None:
        original(self, pin_memory=False)

    policy.__init__ = __init__  # type: ignore[method-assign]
    policy.pins_nothing = True  # type: ignore[attr-defined]


def activate() -> None:
    """Set up all that a CPU needs besides the platform class. The plugin calls it when the CPU is the platform."""
    # verl registers its FSDP engine for cuda and npu only, though its code runs on any device.
    os.environ.setdefault("VERL_ENGINE_DEVICE", "cuda")
    patch_duplicate_backend()
    patch_pinned_offload()
