"""A small all-reduce over all nodes, as the trainer will do it: who does not join is named, and the bandwidth measured.

Bus bandwidth is what nccl-tests calls so: 2 (n - 1) / n times the bytes over the time, the rate that the slowest link
must bear whatever the number of processes n.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

MIB_CPU, MIB_GPU = 16, 256
WARM_UP, TIMED = 2, 5
SLOW_GB_PER_S = 1.0  # between nodes with NCCL: what a 10 GbE network does


class Rank:
    """One process of the all-reduce, sent by value as `visit.Visitor` is."""

    def serve(self, address: str) -> int:
        """Open the meeting place on a free port of the node's address, and return the port."""
        from torch.distributed import TCPStore

        self._store = TCPStore(address, 0, is_master=True, wait_for_workers=False)
        return self._store.port

    def reduce(self, address: str, port: int, rank: int, size: int, on_cpu: bool, seconds: float) -> dict[str, Any]:
        """Meet the others and sum up. Returns `seconds` of one all-reduce and its `bytes`, or the ranks `absent` after
        half of the time."""
        import torch
        from torch import distributed

        limit = timedelta(seconds=seconds / 2)
        store = distributed.TCPStore(address, port, is_master=False, timeout=limit)
        keys = [f"here/{other}" for other in range(size)]
        store.set(keys[rank], "yes")
        deadline = time.monotonic() + seconds / 2
        while absent := [other for other, key in enumerate(keys) if not store.check([key])]:
            if time.monotonic() > deadline:
                return {"absent": absent}
            time.sleep(0.05)
        device = torch.device("cpu" if on_cpu else "cuda:0")
        prefixed = distributed.PrefixStore("all-reduce", store)
        backend = "gloo" if on_cpu else "nccl"
        distributed.init_process_group(backend, store=prefixed, rank=rank, world_size=size, timeout=limit)
        numbers = torch.empty((MIB_CPU if on_cpu else MIB_GPU) * 2**18, device=device)
        times = []
        for _ in range(WARM_UP + TIMED):
            numbers.fill_(1.0)
            distributed.barrier()
            started = time.perf_counter()
            distributed.all_reduce(numbers)
            summed = numbers[-1].item()  # waits for the GPU
            times.append(time.perf_counter() - started)
            if summed != size:
                raise RuntimeError(f"the sum of {size} ones came out as {summed}")
        return {"seconds": statistics.median(times[WARM_UP:]), "bytes": numbers.nbytes}


def ranks(nodes: Sequence[Any], on_cpu: bool) -> list[Any]:
    """The node of each process: one for each free GPU; on the CPU one for each node that has logical devices."""
    return [node for node in nodes for _ in range(min(1, int(node.gpus)) if on_cpu else int(node.free_gpus))]


def measure(nodes: Sequence[Any], on_cpu: bool, seconds: float) -> Iterator[Any]:
    """One line. nodes: those that answered; seconds: after which what has not come is named."""
    from recipe.longrl.preflight.check import Check, describe
    from recipe.longrl.preflight.nodes import visit

    where = ranks(nodes, on_cpu)
    name, deadline = "nodes: all-reduce", visit.Deadline(seconds)
    if len(where) < 2:
        yield Check(name, "ok", f"not done: {len(where)} process has nothing to exchange")
        return
    actors = [visit.on(node.id, Rank, num_gpus=0 if on_cpu else 1) for node in where]
    try:
        first = where[0]
        port = visit.gather({0: actors[0].serve.remote(first.address)}, deadline.left(0.5)).get(0)
        if not isinstance(port, int):
            said = f": {describe(port)}" if port is not None else f" within {seconds / 2:.0f} s"
            yield Check(name, "FAIL", f"{first.name} opened no port for it{said}. Fix: {FIX}")
            return
        limit = deadline.left(0.8)
        asked = {
            rank: actor.reduce.remote(first.address, port, rank, len(where), on_cpu, limit)
            for rank, actor in enumerate(actors)
        }
        came = visit.gather(asked, deadline.left())
    finally:
        visit.end(actors)
    yield _judged(name, where, came, on_cpu, seconds)


FIX = (
    "let the nodes reach each other on all ports (firewall), and name the interface that they share: "
    "NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME; NCCL_DEBUG=INFO says what NCCL tries; or give many processes, and "
    "environments on a slow disk, more time (--timeout SECONDS)"
)


def _judged(name: str, where: Sequence[Any], came: dict[int, Any], on_cpu: bool, seconds: float) -> Any:
    from recipe.longrl.preflight.check import Check, describe

    absent = {rank for answer in came.values() if isinstance(answer, dict) for rank in answer.get("absent", ())}
    absent |= {rank for rank in range(len(where)) if rank not in came} if not absent else set()
    errors = {rank: answer for rank, answer in came.items() if isinstance(answer, Exception)}
    backend = "gloo" if on_cpu else "NCCL"
    if absent:
        missing = ", ".join(dict.fromkeys(where[rank].name for rank in sorted(absent)))
        said = "".join(f"; {where[rank].name}: {describe(error)}" for rank, error in list(errors.items())[:2])
        detail = f"{len(absent)} of {len(where)} processes did not join within {seconds:.0f} s: {missing}{said}"
        return Check(name, "FAIL", f"{detail}. Fix: {FIX}")
    if errors:
        rank, error = next(iter(errors.items()))
        return Check(name, "FAIL", f"{backend} broke on {where[rank].name}: {describe(error)}. Fix: {FIX}")
    size, hosts = len(where), len({node.id for node in where})
    slowest = max(came.values(), key=lambda answer: answer["seconds"])
    rate = 2 * (size - 1) / size * slowest["bytes"] / slowest["seconds"] / 1e9
    detail = (
        f"{size} processes on {hosts} nodes, {backend}, {slowest['bytes'] / 2**20:.0f} MiB: "
        f"{rate:.2f} GB/s bus bandwidth"
    )
    if not on_cpu and hosts > 1 and rate < SLOW_GB_PER_S:
        return Check(name, "warn", f"{detail}, as slow as Ethernet. {FIX}")
    return Check(name, "ok", detail)
