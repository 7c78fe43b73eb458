"""A node's hardware, each failure injected: a GPU that is gone, memory in use, a full disk, a busy port."""

import os
import socket
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from recipe.longrl.preflight.nodes import machine
from recipe.longrl.preflight.nodes.question import Driver, Node, Question

pytestmark = pytest.mark.engine
GIB = 2**30


@pytest.fixture
def ask(composed):
    """ask(look, overrides, gpus=..., **injected) -> name -> (status, detail, values) on a node of 8 GPUs."""

    def run(look, *overrides: str, gpus: float = 8, free: float = 8, object_store: float = 0, **injected):
        node = Node("0", "n0", "127.0.0.1", gpus, free, 64, object_store)
        question = Question(composed(*overrides), node, Driver("3.11.7", ""))
        return {found.name: (found.status, found.detail, found.values) for found in look(question, **injected)}

    return run


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch):
    """nvidia_smi(GPUs, used MiB, processes) puts a program of that name, which shows them, first on the path."""

    def install(gpus: int, used: int = 600, processes: str = "") -> None:
        program = tmp_path / "nvidia-smi"
        card = f"NVIDIA H100 80GB HBM3, 550.54.15, {used}, 81559"
        shown = "\n".join([card] * gpus)
        program.write_text(f'#!/bin/sh\ncase "$1" in *gpu=*) echo "{shown}" ;; *) echo "{processes}" ;; esac\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return install


def test_gpus_as_ray_says(ask, nvidia_smi):
    nvidia_smi(8)
    found = ask(machine.gpus)
    assert {status for status, *_ in found.values()} == {"ok"}
    assert found["GPU type"][1] == "NVIDIA H100 80GB HBM3"
    assert found["GPU driver"][1] == "550.54.15"
    assert found["GPU memory"][2] == pytest.approx((79.6, 0.59), rel=0.01)


def test_a_missing_gpu(ask, nvidia_smi):
    nvidia_smi(7)
    status, detail, _ = ask(machine.gpus)["GPUs"]
    assert status == "FAIL"
    assert "Ray says 8, nvidia-smi shows 7. Fix: look for it (`dmesg | grep Xid`)" in detail
    assert "--num-gpus=7" in detail


def test_no_driver(ask, monkeypatch, tmp_path: Path):
    import torch

    monkeypatch.setenv("PATH", str(tmp_path))
    status, detail, _ = ask(machine.gpus)["GPUs"]
    assert status == "FAIL"
    assert "nvidia-smi cannot say: FileNotFoundError" in detail
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", "6.2")
    assert ask(machine.gpus)["GPUs"][0] == "warn"


def test_memory_that_an_earlier_run_left_in_use(ask, nvidia_smi):
    nvidia_smi(8, used=70000, processes="4711, python, 69000")
    status, detail, _ = ask(machine.gpus)["GPU memory"]
    assert status == "FAIL"
    assert "process 4711 python (69000 MiB), and Ray says that all are free. Fix: end what an earlier" in detail
    assert ask(machine.gpus, free=4)["GPU memory"][0] == "warn"  # it may be the other job's


def test_a_node_without_gpus_needs_none(ask):
    assert ask(machine.gpus, gpus=0) == {"GPUs": ("ok", "none, as Ray says", ())}


def usage(total: float, free: float):
    """disk_usage of a file system of so many GiB."""
    return lambda path: SimpleNamespace(total=total * GIB, used=(total - free) * GIB, free=free * GIB)


@pytest.mark.parametrize(
    ("total", "free", "status", "message"),
    [(100, 0.5, "FAIL", "set TMPDIR"), (1000, 40, "FAIL", "95% full"), (50, 5, "warn", ""), (1000, 500, "ok", "")],
)
def test_disk(ask, total: float, free: float, status: str, message: str):
    found, detail, _ = ask(machine.disks, disk_usage=usage(total, free))["disk"]
    assert found == status
    assert "/tmp/ray (Ray's session) has {} of {} GiB free" in detail
    assert message in detail


def test_a_file_system_that_is_really_without_room(monkeypatch):
    """/proc has none, on every Linux and for everybody."""
    monkeypatch.setattr(tempfile, "tempdir", "/proc")
    question = Question(
        SimpleNamespace(data={}),
        Node("0", "n0", "127.0.0.1", 0, 0, 1, 0),
        Driver("", ""),  # type: ignore[arg-type]
    )
    failures = [found.detail for found in machine.disks(question) if found.status == "FAIL"]
    assert any("/proc (temporary files)" in detail for detail in failures)


def test_little_shared_memory(ask):
    status, detail, values = ask(machine.shared_memory, disk_usage=usage(0.0625, 0.0625))["shared memory"]
    assert status == "FAIL"
    assert "1 needed. Fix: docker run --shm-size" in detail
    assert values == (0.0625, 0.0625)
    assert ask(machine.shared_memory, disk_usage=usage(64, 60), object_store=200 * GIB)["shared memory"][0] == "warn"
    assert ask(machine.shared_memory, disk_usage=usage(64, 60), object_store=20 * GIB)["shared memory"][0] == "ok"


def test_few_cores(ask, monkeypatch):
    monkeypatch.setattr(machine, "_usable_cores", lambda: 1.0)
    status, detail, _ = ask(machine.cores)["cores"]
    assert status == "warn"
    assert "few for 8 GPUs. Fix: give them 16 or more (sbatch --cpus-per-task" in detail


def test_a_busy_port(ask):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        on = ["transfer_queue.metrics.enabled=true", f"transfer_queue.metrics.port={port}"]
        status, detail, _ = ask(machine.ports, *on)["ports"]
    assert status == "FAIL"
    assert f"transfer_queue.metrics.port = {port} cannot be opened at 127.0.0.1: OSError" in detail
    assert ask(machine.ports, *on)["ports"][:2] == (
        "ok",
        f"a free port can be opened, transfer_queue.metrics.port = {port}",
    )


def test_the_port_that_kubernetes_gives_a_service_named_vllm(ask, monkeypatch):
    monkeypatch.setenv("VLLM_PORT", "tcp://10.0.0.1:8000")
    status, detail, _ = ask(machine.ports)["ports"]
    assert status == "FAIL"
    assert "VLLM_PORT = tcp://10.0.0.1:8000 is no number" in detail
