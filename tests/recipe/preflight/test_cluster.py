"""Whether the run finds its place in Ray, as ray.init would find or start it."""

import os
import socket
import time
from pathlib import Path

import pytest
import torch

from recipe.longrl import settings
from recipe.longrl.preflight import cluster, placement
from recipe.longrl.preflight.placement import ClusterState, NodeResources

pytestmark = pytest.mark.engine


@pytest.fixture
def line(composed):
    """line(overrides) -> (status, detail) of the cluster check of a GPU run."""

    def run(*overrides: str, dry_run: bool = False) -> tuple[str, str]:
        config = composed(*overrides)
        settings.resolve(config)
        (found,) = cluster.check_cluster(config, dry_run)
        return found.status, found.detail

    return run


@pytest.fixture
def running(monkeypatch):
    """running(nodes) makes a cluster at head:6379 of nodes with these GPUs and CPUs, all free; or in this state."""

    def start(*nodes: tuple[int, int], state: ClusterState | None = None) -> None:
        given = state or ClusterState([NodeResources(f"n{i}", *node, *node) for i, node in enumerate(nodes)])
        monkeypatch.setenv("RAY_ADDRESS", "head:6379")
        monkeypatch.setattr(placement, "query_cluster", lambda *_: given)

    return start


def test_absent_gpus_stop_a_run_but_not_a_dry_run(line, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    status, detail = line()
    assert status == "FAIL"
    assert "needs 1 x 8 GPUs" in detail
    assert line(dry_run=True)[0] == "warn"


def test_too_few_gpus(line, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    status, detail = line()
    assert status == "FAIL"
    assert "has 4 GPUs" in detail
    assert "too few GPUs. Fix: run on a cluster (RAY_ADDRESS) or choose another hardware=... group" in detail


def test_too_few_cpus_and_the_advice_has_effect(line, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    status, detail = line("hardware=1gpu")
    assert status == "FAIL"
    assert "too few CPUs. Fix: ray_kwargs.ray_init.num_cpus=7" in detail
    assert line("hardware=1gpu", "ray_kwargs.ray_init.num_cpus=7")[0] == "ok"


def test_too_few_tickets_on_the_cpu(check):
    status, detail = check("ray_kwargs.ray_init.num_cpus=4")["cluster"]
    assert status == "FAIL"
    assert "9 Ray CPUs" in detail
    assert "Fix: ray_kwargs.ray_init.num_cpus=9" in detail


@pytest.mark.parametrize(
    ("nodes", "status", "message"),
    [
        ([(8, 128)], "ok", "the Ray cluster at head:6379 has 8 GPUs and 128 CPUs"),
        (
            [(4, 64), (4, 64)],
            "FAIL",
            "no node has room for 8 GPUs with 24 CPUs, and a placement group lies on one node",
        ),
        ([(8, 16), (0, 64)], "FAIL", "no node has room for 8 GPUs with 24 CPUs"),
        (
            [(8, 24)],
            "FAIL",
            "Ray would wait forever for these resources: too few CPUs. Fix: a larger `ray start --num-cpus`",
        ),
        ([(4, 64)], "FAIL", "too few GPUs"),
        ([], "FAIL", "has no node"),
    ],
)
def test_each_group_needs_a_node(line, running, nodes, status, message):
    running(*nodes)
    found, detail = line()
    assert found == status, detail
    assert message in detail


def test_two_nodes_and_the_served_judge_beside_them(line, running):
    judged = [
        "hardware=16gpu",
        "longrl.reward.answer.by=reward_model",
        "reward.reward_model.model_path=some/judge",
        "reward.reward_model.n_gpus_per_node=2",
    ]
    running((8, 64), (8, 64))
    status, detail = line(*judged)
    assert status == "FAIL"
    assert "needs 2 x 8 + 1 x 2 GPUs" in detail
    running((8, 64), (8, 64), (2, 16))
    assert line(*judged)[0] == "ok"


def test_groups_take_the_fullest_node_that_fits():
    assert placement.unplaced_groups([8, 4, 4], [(8, 64), (8, 64)]) == []
    assert placement.unplaced_groups([2, 6], [(8, 64)]) == []
    assert placement.unplaced_groups([6, 6], [(8, 64), (5, 64)]) == [6]


def test_what_another_job_holds_is_named(line, running):
    nodes = [NodeResources("n0 (10.0.0.1)", 8, 64, 2, 46)]
    running(state=ClusterState(nodes, jobs=["`python other.py` (process 7 on 10.0.0.1, job 01000000)"]))
    status, detail = line()
    assert status == "FAIL"
    assert "n0 (10.0.0.1) has 2 of 8 GPUs and 46 of 64 CPUs free. Connected: `python other.py` (process 7" in detail
    assert line(dry_run=True)[0] == "warn"


def test_a_running_cluster_is_attached_to_without_ray_address(line, monkeypatch, tmp_path: Path, composed):
    """`ray start` leaves the address behind, and ray.init() without any goes there."""
    monkeypatch.delenv("RAY_ADDRESS")
    (tmp_path / "ray_current_cluster").write_text("10.0.0.7:6379")
    addresses = []
    state = ClusterState([NodeResources("n0", 8, 64, 8, 64)])
    monkeypatch.setattr(placement, "query_cluster", lambda address, *_: addresses.append(address) or state)
    assert line(f"+ray_kwargs.ray_init._temp_dir={tmp_path}")[0] == "ok"
    assert addresses == ["10.0.0.7:6379"]


@pytest.mark.parametrize("mode", [0o644, 0o666])
def test_a_cluster_that_others_may_have_named_is_joined_only_by_its_address(composed, monkeypatch, tmp_path, mode: int):
    """In /tmp/ray anybody can name a cluster, and its owner runs code in what joins it."""
    monkeypatch.delenv("RAY_ADDRESS")
    named = tmp_path / "ray_current_cluster"
    named.write_text("10.0.0.7:6379")
    named.chmod(mode)
    config = composed(f"+ray_kwargs.ray_init._temp_dir={tmp_path}")
    assert cluster.cluster_to_join(config) == ("10.0.0.7:6379" if mode == 0o644 else None)
    assert cluster.not_joined(config) == (None if mode == 0o644 else f"everybody can write {named}")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.8:6379")
    assert cluster.cluster_to_join(config) == "10.0.0.8:6379"


def test_what_ray_refuses_when_attaching(check, running, monkeypatch, tmp_path: Path):
    """To a cluster that nobody named; when RAY_ADDRESS does, the hardware group's sizes are dropped."""
    running((2, 16))
    assert check()["cluster"][0] == "ok"
    monkeypatch.delenv("RAY_ADDRESS")
    (tmp_path / "ray_current_cluster").write_text("10.0.0.7:6379")
    status, detail = check(f"+ray_kwargs.ray_init._temp_dir={tmp_path}")["cluster"]
    assert status == "FAIL"
    assert "ray.init refuses num_cpus, num_gpus, object_store_memory" in detail
    assert "ray_kwargs.ray_init.num_cpus=null" in detail


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9"])
def test_unreachable_cluster_is_a_line_within_seconds(line, monkeypatch, address: str):
    monkeypatch.setenv("RAY_ADDRESS", address)
    started = time.monotonic()
    status, detail = line(dry_run=True)
    assert status == "FAIL"
    assert f"no Ray cluster answers at {address}: ConnectionRefusedError" in detail
    assert "correct RAY_ADDRESS or unset it" in detail
    assert time.monotonic() - started < 10


def test_an_address_that_is_none(line, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "head-node")
    assert "no Ray cluster answers at head-node" in line()[1]


def test_a_hanging_ray_is_given_up(line, monkeypatch):
    """Something listens and never answers, as a head node does whose Ray is stuck."""
    monkeypatch.setattr(placement, "QUERY_TIMEOUT_S", 4.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        status, detail = line()
    assert status == "FAIL"
    assert f"no Ray cluster answers at {address}" in detail
