"""Run a small all-reduce over all GPUs as the trainer would: name the nodes that do not join, measure the bandwidth.

The bandwidth is what nccl-tests calls bus bandwidth: 2 (n - 1) / n times the bytes over the time, for n processes. It
is the rate that the slowest link must reach, whatever n is.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from recipe.longrl.preflight.check import Check, describe
from recipe.longrl.preflight.nodes import node_tasks
from recipe.longrl.preflight.nodes.probe_input import ClusterNode

NAME = "nodes: all-reduce"
MIB_CPU, MIB_GPU = 16, 256
WARM_UP, TIMED = 2, 5
SLOW_GB_PER_S = 1.0
"""Between nodes with NCCL. A 10 Gb/s network reaches it."""
FIX = (
    "let the nodes reach each other on all ports (firewall), and set NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME to the "
    "network interface that they share; NCCL_DEBUG=INFO prints NCCL's attempts; if there are many processes or Python "
    "is on a slow disk, allow more time (--timeout SECONDS)"
)


def check_all_reduce(nodes: Sequence[ClusterNode], on_cpu: bool, seconds: float) -> Check:
    """The line of the all-reduce over these nodes, which takes `seconds` at most."""
    import ray
    from torch.distributed import TCPStore

    ranks = place_ranks(nodes, on_cpu)
    if len(ranks) < 2:
        return Check(NAME, "ok", "skipped: only one process" if ranks else "skipped: no process")
    seconds = max(1.0, seconds)
    address = ray.util.get_node_ip_address()
    # The processes meet at this store of the driver, on a free port.
    store = TCPStore(address, 0, is_master=True, wait_for_workers=False)
    references = {
        rank: node_tasks.start_on_node(
            node.id,
            join_all_reduce,
            *(address, store.port, rank, len(ranks), on_cpu, 0.8 * seconds),
            gpus=0 if on_cpu else 1,
        )
        for rank, node in enumerate(ranks)
    }
    return summarize_all_reduce(ranks, node_tasks.wait_for_results(references, seconds), on_cpu, seconds)


def place_ranks(nodes: Sequence[ClusterNode], on_cpu: bool) -> list[ClusterNode]:
    """The node of each rank: one rank for each free GPU; on the CPU one for each node that has logical devices."""
    return [node for node in nodes for _ in range(min(1, int(node.gpus)) if on_cpu else int(node.free_gpus))]


def join_all_reduce(address: str, port: int, rank: int, n_ranks: int, on_cpu: bool, seconds: float) -> dict[str, Any]:
    """One process of the all-reduce: meet the others, and sum up ones. Returns `seconds` and `bytes` of one all-reduce;
    or, after half of the time, the ranks that are `absent`."""
    import torch
    from torch import distributed

    limit = timedelta(seconds=seconds / 2)
    store = distributed.TCPStore(address, port, is_master=False, timeout=limit)
    # NCCL's error after a time-out does not say which rank is missing, so the ranks sign in first.
    keys = [f"here/{other}" for other in range(n_ranks)]
    store.set(keys[rank], "yes")
    deadline = time.monotonic() + seconds / 2
    while absent := [other for other, key in enumerate(keys) if not store.check([key])]:
        if time.monotonic() > deadline:
            return {"absent": absent}
        time.sleep(0.05)
    device, backend = torch.device("cpu" if on_cpu else "cuda:0"), "gloo" if on_cpu else "nccl"
    group_store = distributed.PrefixStore("all-reduce", store)
    distributed.init_process_group(backend, store=group_store, rank=rank, world_size=n_ranks, timeout=limit)
    ones = torch.empty((MIB_CPU if on_cpu else MIB_GPU) * 2**18, device=device)
    times = []
    for _ in range(WARM_UP + TIMED):
        ones.fill_(1.0)
        distributed.barrier()
        started = time.perf_counter()
        distributed.all_reduce(ones)
        # Reading an element waits for the GPU.
        total = ones[-1].item()
        times.append(time.perf_counter() - started)
        if total != n_ranks:
            raise RuntimeError(f"the sum of {n_ranks} ones is {total}")
    return {"seconds": statistics.median(times[WARM_UP:]), "bytes": ones.nbytes}


def summarize_all_reduce(
    ranks: Sequence[ClusterNode], results: Mapping[int, Any], on_cpu: bool, seconds: float
) -> Check:
    """The line. ranks: the node of each. results: rank -> what `join_all_reduce` returned or raised, if it ended."""
    backend = "gloo" if on_cpu else "NCCL"
    absent = {rank for result in results.values() if isinstance(result, dict) for rank in result.get("absent", ())}
    if not absent:
        # Ranks that joined and then hang have no result.
        absent = set(range(len(ranks))) - results.keys()
    errors = [f"{ranks[rank].name}: {describe(e)}" for rank, e in results.items() if isinstance(e, Exception)]
    if absent:
        missing = ", ".join(dict.fromkeys(ranks[rank].name for rank in sorted(absent)))
        detail = f"{len(absent)} of {len(ranks)} processes did not join within {seconds:.0f} s: {missing}"
        return Check(NAME, "FAIL", f"{'; '.join([detail, *errors[:2]])}. Fix: {FIX}")
    if errors:
        return Check(NAME, "FAIL", f"{backend} failed on {errors[0]}. Fix: {FIX}")
    n_ranks, n_nodes = len(ranks), len({node.id for node in ranks})
    slowest = max(results.values(), key=lambda result: result["seconds"])
    gb_per_s = 2 * (n_ranks - 1) / n_ranks * slowest["bytes"] / slowest["seconds"] / 1e9
    mib = slowest["bytes"] / 2**20
    detail = f"{n_ranks} processes on {n_nodes} nodes, {backend}, {mib:.0f} MiB: {gb_per_s:.2f} GB/s bus bandwidth"
    if not on_cpu and n_nodes > 1 and gb_per_s < SLOW_GB_PER_S:
        return Check(NAME, "warn", f"{detail}, as slow as Ethernet. Fix: {FIX}")
    return Check(NAME, "ok", detail)
