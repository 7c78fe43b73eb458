"""A node's hardware, each failure injected: a GPU that is gone, memory in use, a full disk, a busy port."""

import socket
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from recipe.longrl.preflight import nvidia
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


def test_gpus_as_ray_says(ask, nvidia_smi):
    nvidia_smi(8)
    found = ask(machine.gpus)
    assert {status for status, *_ in found.values()} == {"ok"}
    assert found["GPU type"][1] == "NVIDIA H100 80GB HBM3"
    assert found["GPU driver"][1] == "580.95.05"
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
    assert "Ray says 8, but nvidia-smi cannot be started: FileNotFoundError" in detail
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", "6.2")
    assert ask(machine.gpus)["GPUs"][0] == "warn"


def test_memory_that_an_earlier_run_left_in_use(ask, nvidia_smi):
    nvidia_smi(8, used=70000, processes="4711, python, 69000")
    status, detail, _ = ask(machine.gpus)["GPU memory"]
    assert status == "FAIL"
    assert "process 4711 python (69000 MiB), and Ray says that all are free. Fix: end what an earlier" in detail
    assert ask(machine.gpus, free=4)["GPU memory"][0] == "warn"  # it may be the other job's


@pytest.mark.parametrize("nothing", ["[N/A]", "[Not Supported]", "[Unknown Error]", "[Insufficient Permissions]", ""])
def test_memory_that_nvidia_smi_does_not_say(ask, nvidia_smi, nothing: str):
    nvidia_smi(8, used=nothing, total=nothing)
    found = ask(machine.gpus)
    assert found["GPU memory"][:2] == ("warn", "unknown: nvidia-smi does not say it for 8 of 8 GPUs")
    assert (found["GPUs"][0], found["GPU type"][0]) == ("ok", "ok")


def test_memory_that_it_says_of_some(ask, nvidia_smi):
    nvidia_smi(7, more=["GPU-7, NVIDIA GB10, 580.95.05, [N/A], [N/A]"])
    status, detail, values = ask(machine.gpus)["GPU memory"]
    assert (status, values) == ("warn", pytest.approx((79.6, 0.59), rel=0.01))
    assert detail.endswith("; nvidia-smi does not say it for 1 of 8 GPUs")
    nvidia_smi(7, used=70000, more=["GPU-7, NVIDIA GB10, 580.95.05, [N/A], [N/A]"])
    assert ask(machine.gpus)["GPU memory"][0] == "FAIL"


def test_a_driver_of_unknown_version(ask, nvidia_smi):
    nvidia_smi(8, driver="[N/A]")
    assert ask(machine.gpus)["GPU driver"][:2] == ("ok", "of a version that nvidia-smi does not say")


def test_lines_that_describe_no_gpu_are_shown(ask, nvidia_smi):
    """As for a GPU that has fallen off the bus; and MIG instances, which a query leaves to -L, in other words."""
    lost = "Unable to determine the device handle for GPU 0000:3B:00.0: Unknown Error"
    nvidia_smi(7, more=[lost, "  MIG 1g.10gb Device 0: (UUID: MIG-1)"])
    status, detail, _ = ask(machine.gpus)["GPUs"]
    assert status == "FAIL"
    assert f"nvidia-smi shows 7; it also says: {lost}; MIG 1g.10gb Device 0: (UUID: MIG-1). Fix" in detail
    assert ask(machine.gpus, gpus=7, free=7)["GPUs"][0] == "warn"


def test_no_output_at_all(ask, nvidia_smi):
    nvidia_smi(0)
    found = ask(machine.gpus)
    assert found["GPUs"][0] == "FAIL"
    assert "Ray says 8, nvidia-smi shows 0" in found["GPUs"][1]
    assert found["GPU memory"][0] == "warn"


def test_what_nvidia_smi_says_when_it_fails(ask, program):
    program("nvidia-smi", 'echo "Failed to initialize NVML: Driver/library version mismatch"; exit 18')
    status, detail, _ = ask(machine.gpus)["GPUs"]
    assert status == "FAIL"
    assert "nvidia-smi ended with status 18: Failed to initialize NVML: Driver/library version mismatch" in detail


def test_an_nvidia_smi_that_hangs(ask, program, monkeypatch):
    monkeypatch.setattr(nvidia, "TIMEOUT_S", 0.3)
    program("nvidia-smi", "sleep 60 & wait")
    started = time.monotonic()
    status, detail, _ = ask(machine.gpus)["GPUs"]
    assert status == "FAIL"
    assert "nvidia-smi did not end within 0 s" in detail
    assert time.monotonic() - started < 10


def test_users_of_memory_in_any_form(ask, nvidia_smi):
    nvidia_smi(8, used=70000, processes="4711, python, -m, mine, [N/A]\n[N/A], [Not Found], 12\nnonsense")
    detail = ask(machine.gpus)["GPU memory"][1]
    assert "process 4711 python, -m, mine (memory unknown), process [N/A] [Not Found] (12 MiB), and Ray says" in detail


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


def test_a_disk_that_the_object_store_does_not_fit_on(ask):
    status, detail, values = ask(machine.disks, object_store=200 * GIB, disk_usage=usage(1000, 150))["disk"]
    assert status == "warn"
    assert "less than Ray's object store of {}, which goes there when it is full" in detail
    assert values == (150, 1000, 200)


def test_where_the_object_store_spills(composed):
    config = composed("+ray_kwargs.ray_init.object_spilling_directory=/dev/shm")
    question = Question(config, Node("0", "n0", "127.0.0.1", 8, 8, 64, 200 * GIB), Driver("3.11.7", ""))
    spilled, session, *_ = machine.disks(question, disk_usage=usage(1000, 150))
    assert (spilled.status, session.status) == ("warn", "ok")
    assert "/dev/shm (what Ray's object store has no room for)" in spilled.detail


def test_a_file_system_that_is_really_without_room(monkeypatch):
    """/proc has none, on every Linux and for everybody."""
    monkeypatch.setattr(tempfile, "tempdir", "/proc")
    question = Question(
        OmegaConf.create({"data": {}}),
        Node("0", "n0", "127.0.0.1", 0, 0, 1, 0),
        Driver("", ""),
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
