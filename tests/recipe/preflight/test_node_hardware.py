"""A node's hardware, with each failure injected: a missing GPU, memory in use, little shared memory, a full disk."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from recipe.longrl.preflight import nvidia
from recipe.longrl.preflight.nodes import hardware

pytestmark = pytest.mark.engine
GIB = 2**30


@pytest.fixture
def probe(composed, probe_input):
    """probe(check, overrides, gpus=..., **injected) -> name -> (status, detail) on a node of 8 GPUs."""

    def run(check, *overrides: str, gpus: float = 8, free: float = 8, **injected) -> dict[str, tuple[str, str]]:
        given = probe_input(composed(*overrides), gpus=gpus, free=free)
        return {line.name: (line.status, line.detail) for line in check(given, **injected)}

    return run


def test_gpus_as_ray_reports(probe, nvidia_smi):
    nvidia_smi(8)
    assert probe(hardware.check_gpus) == {
        "GPUs": ("ok", "8, as Ray reports"),
        "GPU kind": ("ok", "NVIDIA H100 80GB HBM3, driver 580.95.05"),
        "GPU memory": ("ok", "80 GiB each, not in use"),
    }
    assert probe(hardware.check_gpus, gpus=0) == {"GPUs": ("ok", "none, as Ray reports")}


LOST = "Unable to determine the device handle for GPU 0000:3B:00.0: Unknown Error"


@pytest.mark.parametrize(
    ("seen", "other_lines"), [(7, []), (7, [LOST, "  MIG 1g.10gb Device 0: (UUID: MIG-1)"]), (0, [])]
)
def test_a_missing_gpu(probe, nvidia_smi, seen: int, other_lines: list[str]):
    """nvidia-smi prints a sentence for a GPU that has fallen off the bus."""
    nvidia_smi(seen, more=other_lines)
    status, detail = probe(hardware.check_gpus)["GPUs"]
    assert status == "FAIL"
    assert f"Ray reports 8 GPUs, nvidia-smi sees {seen}. Fix: find the missing GPU (`dmesg | grep Xid`)" in detail
    assert f"--num-gpus={seen}" in detail


def test_no_driver(probe, monkeypatch, tmp_path: Path):
    import torch

    monkeypatch.setenv("PATH", str(tmp_path))
    status, detail = probe(hardware.check_gpus)["GPUs"]
    assert status == "FAIL"
    assert "Ray reports 8 GPUs, but nvidia-smi cannot be started: FileNotFoundError" in detail
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", "6.2")
    assert probe(hardware.check_gpus)["GPUs"][0] == "warn"


def test_memory_that_an_earlier_run_left_in_use(probe, nvidia_smi):
    processes = "4711, python, -m, mine, [N/A]\n[N/A], [Not Found], 12\nnonsense"
    nvidia_smi(8, used=70000, processes=processes)
    status, detail = probe(hardware.check_gpus)["GPU memory"]
    assert status == "FAIL"
    assert "68.4 of 80 GiB of a GPU are in use by process 4711 python, -m, mine (memory unknown), process" in detail
    assert "process [N/A] [Not Found] (12 MiB), although Ray reports all GPUs as free. Fix: end what an" in detail
    assert probe(hardware.check_gpus, free=4)["GPU memory"][0] == "warn"  # it may be the other job's


@pytest.mark.parametrize("nothing", ["[N/A]", "[Not Supported]", "[Unknown Error]", ""])
def test_memory_that_nvidia_smi_does_not_report(probe, nvidia_smi, nothing: str):
    nvidia_smi(8, used=nothing, total=nothing, driver="[N/A]")
    lines = probe(hardware.check_gpus)
    assert lines["GPU memory"] == ("warn", "unknown: nvidia-smi does not report it for these GPUs")
    assert lines["GPU kind"] == ("ok", "NVIDIA H100 80GB HBM3, driver unknown")
    nvidia_smi(7, used=70000, more=["GPU-7, NVIDIA GB10, 580.95.05, [N/A], [N/A]"])
    assert probe(hardware.check_gpus)["GPU memory"][0] == "FAIL"


def test_an_nvidia_smi_that_fails_or_hangs(probe, program, monkeypatch):
    program("nvidia-smi", 'echo "Failed to initialize NVML: Driver/library version mismatch"; exit 18')
    status, detail = probe(hardware.check_gpus)["GPUs"]
    assert status == "FAIL"
    assert "nvidia-smi failed with status 18: Failed to initialize NVML: Driver/library version mismatch" in detail
    monkeypatch.setattr(nvidia, "TIMEOUT_S", 0.3)
    program("nvidia-smi", "sleep 60 & wait")
    started = time.monotonic()
    status, detail = probe(hardware.check_gpus)["GPUs"]
    assert status == "FAIL"
    assert "nvidia-smi did not end within 0 s" in detail
    assert time.monotonic() - started < 10


def usage(total: float, free: float):
    """disk_usage of a file system of so many GiB."""
    return lambda path: SimpleNamespace(total=total * GIB, used=(total - free) * GIB, free=free * GIB)


@pytest.mark.parametrize(("total", "free", "status"), [(100, 0.5, "FAIL"), (1000, 40, "FAIL"), (1000, 500, "ok")])
def test_disk_of_ray(probe, total: float, free: float, status: str):
    found, detail = probe(hardware.check_ray_disk, disk_usage=usage(total, free))["disk"]
    assert found == status
    assert detail.startswith("/tmp/ray has ")
    assert status == "ok" or "less than 95% full. Fix: free some space" in detail
    spilling = "+ray_kwargs.ray_init.object_spilling_directory=/dev/shm"
    assert probe(hardware.check_ray_disk, spilling, disk_usage=usage(9, 9))["disk"][1] == "/dev/shm has space for Ray"


def test_a_file_system_that_is_really_full(probe):
    """/proc has no space, on every Linux and for everybody."""
    assert probe(hardware.check_ray_disk, "+ray_kwargs.ray_init._temp_dir=/proc/ray")["disk"][0] == "FAIL"


def test_little_shared_memory(probe):
    status, detail = probe(hardware.check_shared_memory, disk_usage=usage(0.0625, 0.0625))["shared memory"]
    assert status == "FAIL"
    assert "/dev/shm has 0.062 GiB free, needs 1. Fix: docker run --shm-size" in detail
    assert probe(hardware.check_shared_memory, disk_usage=usage(64, 60))["shared memory"][0] == "ok"


@pytest.mark.parametrize(
    ("offset", "words"), [(-5, None), (-3600, "3,600 s behind"), (60, None), (3600, "3,600 s ahead of")]
)
def test_clock(composed, probe_input, offset: float, words: str | None):
    """A node that starts its probes a minute after the driver asked looks like one whose clock is ahead."""
    lines = list(hardware.check_clock(probe_input(composed(), driver_time=time.time() - offset)))
    assert [line.status for line in lines] == ([] if words is None else ["warn"])
    assert words is None or f"about {words} the driver's. Fix: synchronize" in lines[0].detail
