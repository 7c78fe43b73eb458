"""`python -m recipe.longrl.preflight` on a real cluster of several raylets: a good one, and one with everything wrong.

The raylets differ as machines do. One has a working directory of its own: paths through /proc/self/cwd are then local
disks. Its PYTHONPATH begins with other distributions of the same names and a clock that is an hour ahead, and its proxy
does not reach the judge.
"""

import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster
from support.fake_openai_server import Server

from recipe.longrl.preflight import __main__ as command
from recipe.longrl.preflight import cluster as cluster_check
from recipe.longrl.preflight import placement

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
HERE = "/proc/self/cwd"


class Nodes:
    """Raylets on this machine. folder: what the good ones have in common, as their working directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._cluster = Cluster()
        self.add(folder, include_dashboard=False)
        self.second = self.add(folder)

    @property
    def address(self) -> str:
        return self._cluster.address

    def add(self, folder: Path, **options):
        """A raylet of 8 CPUs and a logical device that runs in this folder."""
        back = Path.cwd()
        os.chdir(folder)
        try:
            return self._cluster.add_node(num_cpus=8, num_gpus=1, **options)
        finally:
            os.chdir(back)

    def remove(self, node) -> None:
        self._cluster.remove_node(node, allow_graceful=False)

    def close(self) -> None:
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def nodes(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    folder = tmp_path_factory.mktemp("shared")
    shutil.copytree(assets, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        running = Nodes(folder)
        yield running
        running.close()


@pytest.fixture
def preflight(nodes: Nodes, monkeypatch, capsys):
    """preflight(arguments) -> exit status, name -> lines of that check, and all that was printed."""

    def run(*arguments: str) -> tuple[int, dict[str, list[tuple[str, str]]], str]:
        monkeypatch.setenv("RAY_ADDRESS", nodes.address)
        monkeypatch.setenv("COLUMNS", "1000")
        monkeypatch.chdir(nodes.folder)
        files = [f"data.{split}_files=[{HERE}/{split}.parquet]" for split in ("train", "val")]
        files += [f"actor_rollout_ref.model.path={HERE}/model", f"longrl.output_dir={HERE}/run"]
        attached = [f"ray_kwargs.ray_init.{key}=null" for key in ("num_cpus", "num_gpus", "object_store_memory")]
        shape = ["model=demo", "hardware=cpu", "trainer.nnodes=2", "trainer.n_gpus_per_node=1"]
        status = 0
        try:
            command.check_and_show([*shape, *attached, *files, *arguments])
        except SystemExit as ending:
            status = ending.code
        output = capsys.readouterr()
        lines: dict[str, list[tuple[str, str]]] = {}
        for name, found, detail in re.findall(r"│ (\S.*?) +│ (ok|warn|FAIL) +│ (.*?) *│", output.out):
            lines.setdefault(name, []).append((found, detail))
        return status, lines, output.out + output.err

    return run


def test_two_good_nodes_pass(preflight, nodes: Nodes):
    status, lines, shown = preflight()
    assert status == 0, shown
    assert lines["nodes"][0][1].startswith("2 responded: ")
    for name in ("GPUs", "disk", "versions", "plugin", "Python", "LongRL's code", "folders", "files"):
        ((found, detail),) = lines[f"nodes: {name}"]
        assert found == "ok", shown
        assert detail.startswith("all 2 nodes: "), shown
    ((found, detail),) = lines["nodes: all-reduce"]
    assert found == "ok"
    assert re.match(r"2 processes on 2 nodes, gloo, 16 MiB: [\d.]+ GB/s bus bandwidth", detail), detail
    assert re.search(r"preflight passed in [\d.]+ s", shown)
    assert not list(nodes.folder.glob(".preflight-*"))


def test_what_another_job_holds_is_found_before_the_wait(nodes: Nodes, configure, monkeypatch):
    import ray
    from ray.util.placement_group import placement_group

    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    monkeypatch.setattr(placement, "FREE_TIMEOUT_S", 5.0)
    attached = [f"ray_kwargs.ray_init.{key}=null" for key in ("num_cpus", "num_gpus", "object_store_memory")]
    config = configure("trainer.nnodes=2", "trainer.n_gpus_per_node=1", *attached)
    (line,) = cluster_check.check_cluster(config, dry_run=False)
    assert line.status == "ok", line
    ray.init(nodes.address, log_to_driver=False)
    try:
        ray.get(placement_group([{"GPU": 1, "CPU": 6}]).ready(), timeout=30)
        (line,) = cluster_check.check_cluster(config, dry_run=False)
    finally:
        ray.shutdown()
    assert line.status == "FAIL"
    assert "has 0 of 1 logical devices and 2 of 8 CPUs free" in line.detail
    assert f"process {os.getpid()} on " in line.detail


@pytest.fixture
def bad(nodes: Nodes, tmp_path: Path) -> Iterator[str]:
    """The beginning of the id of a node with everything wrong."""
    disk, packages = tmp_path / "disk", tmp_path / "packages"
    shutil.copytree(nodes.folder / "model", disk / "model")
    shutil.copy(nodes.folder / "val.parquet", disk)  # train.parquet is missing
    (disk / "model" / "config.json").write_text("{}")
    for name, version in (("longrl", "0.0"), ("tensordict", "0.0.1")):
        other = packages / f"{name}-{version}.dist-info"
        other.mkdir(parents=True)
        (other / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (packages / "sitecustomize.py").write_text("import time\nreal = time.time\ntime.time = lambda: real() + 3600\n")
    environment = {"PYTHONPATH": str(packages), "http_proxy": "http://127.0.0.1:9"}
    node = nodes.add(disk, env_vars=environment)
    yield node.node_id[:8]
    nodes.remove(node)


def test_each_thing_that_is_wrong_is_named_with_its_node(preflight, nodes: Nodes, bad: str, monkeypatch):
    monkeypatch.setattr(placement, "FREE_TIMEOUT_S", 3.0)
    raylet = nodes.second.all_processes["raylet"][0].process.pid
    judge = Server()
    os.kill(raylet, signal.SIGSTOP)
    try:
        asking = ["longrl.reward.answer.by=judge", f"longrl.judge.endpoints=[{judge.url}]"]
        status, lines, shown = preflight("--timeout", "50", *asking)
    finally:
        os.kill(raylet, signal.SIGCONT)
        judge.close()
    assert status == 2
    failures = {name: [d for found, d in of if found == "FAIL"] for name, of in lines.items()}
    (silent,) = failures["nodes"]
    assert f"node {nodes.second.node_id[:8]}) did not respond in time. Fix: " in silent
    for name, said in {
        "versions": "tensordict 0.0.1, expected",
        "plugin": "longrl is not among the entry points verl.plugins",
        "folders": "the driver's file is not there. Fix: put longrl.output_dir",
    }.items():
        (detail,) = failures[f"nodes: {name}"]
        assert f"node {bad})" in detail.split(": ")[0], detail
        assert said in detail
    keys, judge_line = failures["nodes: judge"]
    assert "cannot be read (No such file or directory). Fix: put it where every machine of the run can read it" in keys
    assert f"{judge.url} does not answer" in judge_line
    different = " ".join(failures["nodes: files"])
    assert "model.path = /proc/self/cwd/model: differs from the driver's (config.json: " in different
    assert "data.train_files[0] = /proc/self/cwd/train.parquet: missing or not readable here" in different
    assert any("s ahead of the driver's" in detail for _, detail in lines["nodes: clock"])
    assert re.search(r"preflight failed in [\d.]+ s, nothing was started", shown)
