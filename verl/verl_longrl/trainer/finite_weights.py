"""Whether the weights of a trainer rank are finite, asked of the rank itself.

One nan in a checkpoint makes everything that comes after it nan, and rotation deletes the good ones. Least and greatest
value are had by reading a shard once: 0.1 s per GiB on two busy CPU cores, where the weights are offloaded.
"""

from collections.abc import Iterator
from typing import Any

import ray
import torch
from ray.actor import ActorHandle

SHOWN = 3


def not_finite(ranks: list[ActorHandle]) -> str | None:
    """The first rank's, and by name the first weights, that are not finite, or None. ranks: of a worker group."""
    found: list[list[str]] = ray.get([rank.__ray_call__.remote(_broken) for rank in ranks])
    for rank, names in enumerate(found):
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            return f"weights of rank {rank} are not finite: {', '.join(names[:SHOWN])}{more}"
    return None


def _broken(rank: Any) -> list[str]:
    """Runs in a rank (verl's WorkerDict): names of its parameters, local shards, that hold an inf or a nan."""
    return [name for name, weights in _parameters(rank) if not _finite(weights)]


def _parameters(rank: Any) -> Iterator[tuple[str, torch.Tensor]]:
    for role in rank.worker_dict.values():
        trained = getattr(role, "actor", role)  # a role that is an actor, or a critic's worker
        if trained is None:  # a frozen reference
            continue
        module = trained.engine.module
        for each in module if isinstance(module, list) else [module]:  # Megatron has a list
            yield from each.named_parameters()


@torch.no_grad()
def _finite(weights: torch.Tensor) -> bool:
    local = weights.to_local() if hasattr(weights, "to_local") else weights
    if not local.numel() or not local.is_floating_point():  # no part of it is here; quantised and frozen
        return True
    return bool(torch.stack(torch.aminmax(local)).isfinite().all())  # nan is passed on
