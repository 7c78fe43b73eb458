"""All nodes together: the command, merged lines, nodes that do not respond, probes that hang, the all-reduce's line."""

import subprocess
import sys
import threading

import pytest

from recipe.longrl.preflight import __main__ as command
from recipe.longrl.preflight import nodes
from recipe.longrl.preflight.check import Check
from recipe.longrl.preflight.nodes import all_reduce, probes
from recipe.longrl.preflight.nodes.probe_input import ClusterNode
from recipe.longrl.preflight.nodes.summary import merge_node_checks

pytestmark = pytest.mark.engine
A, B = (ClusterNode(name, f"{name} (10.0.0.{i})", 2, 1) for i, name in enumerate("ab"))


# The command.


def test_help_names_the_exit_status(capsys):
    command.check_and_show(["--help"])
    assert "exit status: 0" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--timeout"], ["--timeout", "soon"]])
def test_a_timeout_must_be_a_number(arguments: list[str], capsys):
    with pytest.raises(SystemExit) as ending:
        command.check_and_show(arguments)
    assert ending.value.code == 2
    assert "--timeout needs a number of seconds" in capsys.readouterr().err


def test_without_a_cluster_this_machine_is_checked(configure):
    statuses = {line.name: line.status for line in nodes.check_nodes(configure(), 30)}
    assert statuses["nodes: GPUs"] == "ok"
    assert "nodes: all-reduce" not in statuses


def test_a_dead_cluster(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    overrides = ["data.train_files=[/no.parquet]", "data.val_files=[/no.parquet]", "actor_rollout_ref.model.path=/no"]
    done = subprocess.run(
        [sys.executable, "-m", "recipe.longrl.preflight", *overrides], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2
    assert "no Ray cluster answers at 127.0.0.1:9" in done.stdout.replace("\n", " ")
    assert "preflight failed in" in done.stderr


# Lines of several nodes.


def test_nodes_with_the_same_result_share_a_line_and_others_are_named():
    same = Check("versions", "ok", "ray 2.60.0")
    assert list(merge_node_checks({"a": [same], "b": [same]})) == [
        Check("nodes: versions", "ok", "all 2 nodes: ray 2.60.0")
    ]
    found = {"a": [same], "b": [Check("versions", "FAIL", "ray 1.0, expected 2.60.0")], "c": [same]}
    assert list(merge_node_checks(found)) == [
        Check("nodes: versions", "ok", "a, c: ray 2.60.0"),
        Check("nodes: versions", "FAIL", "b: ray 1.0, expected 2.60.0"),
    ]


def test_different_gpus_are_a_warning():
    found = {node: [Check("GPU kind", "ok", kind)] for node, kind in (("a", "H100"), ("b", "A100"))}
    lines = list(merge_node_checks(found))
    assert [line.status for line in lines] == ["warn", "warn"]
    assert lines[1].detail.startswith("b: A100, but the nodes differ. Fix: make the nodes the same")


def test_many_nodes_are_counted_not_listed():
    found = {f"n{i}": [Check("GPUs", "FAIL" if i else "ok", "lost")] for i in range(20)}
    detail = next(line.detail for line in merge_node_checks(found) if line.status == "FAIL")
    assert "n1, n2, n3, n4, n5, n6, n7, n8 and 11 more: lost" in detail


def test_a_node_that_does_not_respond_or_start_is_named():
    healthy = [Check("GPUs", "ok", "2")]
    lines = [(line.name, line.status) for line in nodes.summarize_results([A, B], {"a": healthy, "b": healthy}, {})]
    assert lines == [("nodes", "ok"), ("nodes: GPUs", "ok")]
    (line, _) = nodes.summarize_results([A, B], {"a": healthy}, {})
    assert line.status == "FAIL"
    assert line.detail.startswith("b (10.0.0.1) did not respond in time. Fix: ")
    (line, _) = nodes.summarize_results([A, B], {"a": healthy, "b": ImportError("No module named 'recipe'")}, {})
    assert line.detail.startswith(
        "could not start a process on b (10.0.0.1): ImportError: No module named 'recipe'. Fix"
    )


def test_a_probe_that_hangs_or_breaks_is_named():
    end = threading.Event()

    def broken(_):
        raise KeyError("surprise")

    def hang(_):
        end.wait(60)
        yield Check("disk", "ok", "")

    probed = {"GPUs": broken, "packages": lambda _: iter([Check("versions", "ok", "")]), "disk": hang, "judge": broken}
    lines = probes.run_probes(None, 1.0, probed)  # type: ignore[arg-type]
    end.set()
    assert [(line.name, line.status) for line in lines] == [("GPUs", "FAIL"), ("versions", "ok"), ("disk", "FAIL")]
    assert lines[0].detail == "internal error in this check: KeyError: 'surprise'. Please report it"
    assert lines[2].detail.startswith("timed out (later checks skipped). Fix: look for a hung disk")


# The all-reduce.


def all_reduce_line(results: dict, on_cpu: bool = False) -> Check:
    return all_reduce.summarize_all_reduce([A, B], results, on_cpu, 30.0)


def test_a_process_for_each_free_gpu_and_on_the_cpu_for_each_node():
    c, head = ClusterNode("c", "c", 4, 2), ClusterNode("head", "head", 0, 0)
    assert [node.id for node in all_reduce.place_ranks([A, B, c], False)] == list("abcc")
    assert [node.id for node in all_reduce.place_ranks([A, B, head], True)] == list("ab")
    assert all_reduce.check_all_reduce([A], False, 1.0).detail == "skipped: only one process"


@pytest.mark.parametrize("results", [{0: {"absent": [1]}}, {0: RuntimeError("timed out")}])
def test_a_node_that_does_not_join_is_named(results):
    line = all_reduce_line(results)
    assert line.status == "FAIL"
    assert "1 of 2 processes did not join within 30 s: b (10.0.0.1)" in line.detail
    assert "NCCL_SOCKET_IFNAME" in line.detail


def test_an_error_of_nccl_is_shown():
    line = all_reduce_line({0: {"seconds": 1.0, "bytes": 8}, 1: RuntimeError("unhandled system error")})
    assert line.status == "FAIL"
    assert "NCCL failed on b (10.0.0.1): RuntimeError: unhandled system error" in line.detail


def test_bus_bandwidth_is_that_of_the_slowest():
    line = all_reduce_line({0: {"seconds": 0.001, "bytes": 2**28}, 1: {"seconds": 0.01, "bytes": 2**28}})
    assert line.status == "ok"
    assert "2 processes on 2 nodes, NCCL, 256 MiB: 26.84 GB/s bus bandwidth" in line.detail
    slow = {rank: {"seconds": 1.0, "bytes": 2**28} for rank in (0, 1)}
    assert all_reduce_line(slow).status == "warn"
    assert all_reduce_line(slow, on_cpu=True).status == "ok"
