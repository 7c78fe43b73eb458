"""The line of the all-reduce: who did not join is named, what broke is shown, the rate is that of the slowest."""

from recipe.longrl.preflight.nodes import allreduce
from recipe.longrl.preflight.nodes.question import Node

NODES = [Node(name, f"{name} (10.0.0.{i})", f"10.0.0.{i}", 2, 1, 64, 0) for i, name in enumerate("ab")]


def line(came: dict, on_cpu: bool = False):
    return allreduce._judged("nodes: all-reduce", NODES, came, on_cpu, 30.0)


def test_a_process_for_each_free_gpu_and_on_the_cpu_for_each_node():
    assert [node.id for node in allreduce.ranks([*NODES, Node("c", "c", "", 4, 2, 64, 0)], False)] == list("abcc")
    assert [node.id for node in allreduce.ranks([*NODES, Node("head", "head", "", 0, 0, 64, 0)], True)] == list("ab")


def test_who_does_not_join_is_named():
    for came in ({0: {"absent": [1]}}, {0: RuntimeError("timed out")}):
        found = line(came)
        assert found.status == "FAIL"
        assert "1 of 2 processes did not join within 30 s: b (10.0.0.1)" in found.detail
        assert "NCCL_SOCKET_IFNAME" in found.detail


def test_what_breaks_is_shown():
    found = line({0: {"seconds": 1.0, "bytes": 8}, 1: RuntimeError("unhandled system error")})
    assert found.status == "FAIL"
    assert "NCCL broke on b (10.0.0.1): RuntimeError: unhandled system error" in found.detail


def test_bus_bandwidth_is_that_of_the_slowest():
    came = {0: {"seconds": 0.001, "bytes": 2**28}, 1: {"seconds": 0.01, "bytes": 2**28}}
    assert line(came).status == "ok"
    assert "2 processes on 2 nodes, NCCL, 256 MiB: 26.84 GB/s bus bandwidth" in line(came).detail
    slow = {rank: {"seconds": 1.0, "bytes": 2**28} for rank in (0, 1)}
    assert line(slow).status == "warn"
    assert line(slow, on_cpu=True).status == "ok"
