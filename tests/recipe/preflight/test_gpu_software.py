"""The installed software against the GPUs, with each failure injected: the probe runs with a fake torch."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from transformers import Qwen2Config

from recipe.longrl import engine_choice, flash_attention, settings
from recipe.longrl.preflight import nvidia
from recipe.longrl.preflight.nodes import gpu_probe, gpu_software

pytestmark = pytest.mark.engine
TORCH = """
import os
class version: cuda, hip = "13.0", None
class cuda:
    @staticmethod
    def init():
        {init}
    @staticmethod
    def get_device_capability(index):
        return {capability}
bfloat16 = "bfloat16"
"""
SELF_TEST = """
import os
def try_attention(device, dtype):
    {body}
    assert (device, dtype) == ("cuda", "bfloat16")
    return "lse_merge", 0.004, 0.008, {problem!r}
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch):
    """installed(...) installs what the probe imports: torch with a GPU, our attention's self-test, flash-attn."""
    folder = tmp_path / "installed"

    def make(
        init: str = "pass",
        capability: tuple[int, int] = (9, 0),
        body: str = "pass",
        problem: str | None = None,
        flash_attn: str | None = None,
    ) -> None:
        (folder / "verl_longrl" / "engine").mkdir(parents=True, exist_ok=True)
        for package in ("verl_longrl", "verl_longrl/engine"):
            (folder / package / "__init__.py").touch()
        (folder / "torch.py").write_text(TORCH.format(init=init, capability=capability))
        (folder / "verl_longrl" / "engine" / "attention_check.py").write_text(
            SELF_TEST.format(body=body, problem=problem)
        )
        if flash_attn is not None:
            (folder / "flash_attn_2_cuda.py").write_text(flash_attn)
            (folder / "flash_attn.py").write_text("")
        monkeypatch.setenv("PYTHONPATH", str(folder))

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # as Ray does
    make()
    return make


@pytest.fixture
def probe(composed, probe_input):
    """probe(overrides, gpus=..., free=...) -> (status, detail) of each line on a node of 8 GPUs."""

    def run(*overrides: str, gpus: float = 8, free: float = 8) -> list[tuple[str, str]]:
        config = composed(*overrides)
        settings.resolve(config)
        list(engine_choice.decide_engine(config, Qwen2Config()))
        list(flash_attention.choose_attention(config, dry_run=True))
        lines = gpu_software.check_gpu_software(probe_input(config, gpus=gpus, free=free))
        return [(line.status, line.detail) for line in lines]

    return run


def test_software_that_works(probe, nvidia_smi, installed):
    nvidia_smi(8)
    assert probe() == [
        (
            "ok",
            "driver 580.95.05 for CUDA 13.0, compute capability 9.0, attention (lse_merge) tried on one GPU with "
            "relative errors of 0.004 forward and 0.008 backward, a C compiler with Python's headers",
        )
    ]
    assert not torch.cuda.is_initialized()
    nvidia_smi(8, driver="550.54.15")
    assert probe()[0][0] == "ok", "CUDA's forward compatibility lets torch use an old driver"


def test_machines_that_do_not_train_are_not_checked(probe, program):
    """Training on the CPU, and a head node without GPUs."""
    program("nvidia-smi", "exit 1")
    assert probe("hardware=cpu") == probe(gpus=0) == []


OTHER_ENGINE = ("longrl.engine=upstream", "actor_rollout_ref.actor.ulysses_sequence_parallel_size=1")
FLASH = f"+actor_rollout_ref.model.override_config.attn_implementation={flash_attention.FLASH}"
TOO_OLD = "raise RuntimeError('The NVIDIA driver on your system is too old (found version 12040).')"
NO_KERNEL = "raise RuntimeError('CUDA error: no kernel image is available\\nmore')"
WRONG_ABI = "raise ImportError('undefined symbol: _ZN3c104cuda9SetDeviceEi')"


@pytest.mark.parametrize(
    ("installation", "overrides", "problem"),
    [
        ({"init": TOO_OLD}, (), "torch is built. Fix: install NVIDIA driver 580 or later"),
        (
            {"capability": (7, 0)},
            (),
            "capability 7.0: bfloat16 and FlashAttention need 8.0 (A100 or later). Fix: leave",
        ),
        ({"problem": "the backward is wrong"}, (), "attention, tried on one GPU: the backward is wrong"),
        (
            {"body": NO_KERNEL},
            (),
            "attention, tried on one GPU: RuntimeError: CUDA error: no kernel image is available",
        ),
        ({"body": "os.abort()"}, (), "torch sees no GPU: torch crashed on a GPU: "),
        ({"init": "print('a banner'); os._exit(0)"}, (), "the output of gpu_probe.py cannot be read"),
        (
            {},
            (*OTHER_ENGINE, FLASH),
            "attn_implementation = flash_attention_2: flash-attn is not installed",
        ),
        (
            {"flash_attn": WRONG_ABI},
            (*OTHER_ENGINE, FLASH),
            "cannot be imported (ImportError: undefined symbol: _ZN3c10",
        ),
        # The shared prompt does not compute with flash-attn, but transformers loads the model with it.
        ({"flash_attn": WRONG_ABI}, (FLASH,), "cannot be imported (ImportError: undefined symbol: _ZN3c10"),
        # This flash_attn has no function.
        ({"flash_attn": ""}, (*OTHER_ENGINE, FLASH), "attention, tried on one GPU: ImportError: "),
    ],
)
def test_software_that_does_not_train(probe, nvidia_smi, installed, installation, overrides, problem: str):
    nvidia_smi(8, driver="550.54.15" if installation.get("init") == TOO_OLD else "580.95.05")
    installed(**installation)
    ((status, detail),) = probe(*overrides)
    assert status == "FAIL"
    assert problem in detail


def test_a_broken_flash_attn_that_is_not_used(probe, nvidia_smi, installed):
    nvidia_smi(8)
    installed(flash_attn=WRONG_ABI)
    ((status, detail),) = probe()
    assert status == "warn"
    assert "flash-attn is installed and cannot be imported (ImportError: undefined symbol: _ZN3c10" in detail


def test_a_torch_without_cuda(probe, nvidia_smi, installed, monkeypatch):
    nvidia_smi(8)
    installed(init="raise AssertionError('Torch not compiled with CUDA enabled')")
    monkeypatch.setattr(torch.version, "cuda", None)
    ((status, detail),) = probe()
    assert status == "FAIL"
    assert "torch is built without CUDA. Fix: bash scripts/setup.sh gpu" in detail


@pytest.mark.parametrize(
    ("driver", "cuda", "too_old"),
    [
        ("550.54.15", "13.0", True),
        ("580.65.06", "13.0", False),
        ("580.9", "13.0", True),
        ("525.60.13", "12.8", False),
        ("470.82.01", "12.8", True),
        (None, "13.0", False),
        ("550.54.15", "14.1", False),  # not in the table, so no problem is known
        ("550.54.15", None, False),
    ],
)
def test_the_minimum_driver_of_a_cuda_version(driver, cuda, too_old):
    gpus = [nvidia.Gpu("GPU-0", "H100", driver, None, None)]
    assert (nvidia.driver_problem(gpus, cuda) is not None) == too_old


def test_a_gpu_that_hangs(probe, nvidia_smi, installed, monkeypatch):
    nvidia_smi(8)
    installed(init="import time; time.sleep(60)")
    monkeypatch.setattr(gpu_software, "PROBE_TIMEOUT_S", 1.0)
    started = time.monotonic()
    ((status, detail),) = probe()
    assert status == "FAIL"
    assert "torch did not respond on a GPU within 1 s" in detail
    assert time.monotonic() - started < 20


def test_the_probe_sees_the_gpu_with_least_memory_in_use(probe, nvidia_smi, installed, monkeypatch):
    nvidia_smi(1, used=70000, more=["GPU-free, NVIDIA H100 80GB HBM3, 580.95.05, 0, 81559"])
    installed(init="assert os.environ['CUDA_VISIBLE_DEVICES'] == 'GPU-free', os.environ['CUDA_VISIBLE_DEVICES']")
    assert probe(gpus=2, free=2)[0][0] == "ok"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")  # the user's own choice
    assert "AssertionError: 3" in probe(gpus=2, free=2)[0][1]


def test_gpus_of_another_job_are_left_alone(probe, nvidia_smi, installed):
    nvidia_smi(8)
    installed(init="raise RuntimeError('not to be used')")
    ((status, detail),) = probe(free=0)
    assert status == "ok"
    assert "attention was not tried: other jobs hold all GPUs" in detail


def test_a_compiler_or_headers_that_are_missing(monkeypatch, tmp_path: Path):
    assert gpu_software.compiler_problem() is None
    with monkeypatch.context() as patch:
        patch.setattr(gpu_software.sysconfig, "get_paths", lambda scheme: {"include": str(tmp_path / "absent")})
        problem = gpu_software.compiler_problem()
        assert "Python.h: No such file" in problem
        assert f"with Python's headers, as Triton does ({tmp_path / 'absent'})" in problem
    for compiler in ("/no/such/cc", "/bin/false"):
        monkeypatch.setenv("CC", compiler)
        assert compiler in gpu_software.compiler_problem()
    monkeypatch.delenv("CC")
    monkeypatch.setattr(gpu_software.shutil, "which", lambda name: None)
    problem = gpu_software.compiler_problem()
    assert problem.startswith(
        "no C compiler (CC, gcc or clang), which Triton and torch.compile need. Fix: apt-get install"
    )


def test_a_compiler_that_is_missing_is_a_line(probe, nvidia_smi, installed, monkeypatch):
    nvidia_smi(8)
    monkeypatch.setattr(gpu_software, "compiler_problem", lambda: "no C compiler")
    assert probe() == [("FAIL", "no C compiler")]


def test_this_machine_is_checked_before_it_trains_alone(composed, nvidia_smi, installed, monkeypatch):
    """Not before a dry run, a run in a cluster, or one without GPUs."""
    nvidia_smi(8, driver="550.54.15")
    installed(init="raise RuntimeError('too old')")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)

    def lines(*overrides: str, dry_run: bool = False) -> list[str]:
        config = composed(*overrides)
        settings.resolve(config)
        return [line.detail for line in gpu_software.check_gpu_software_here(config, dry_run)]

    assert lines("hardware=cpu") == lines(dry_run=True) == []
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert lines() == []
    monkeypatch.setenv("RAY_ADDRESS", "local")
    (detail,) = lines()
    assert "550.54.15 is older" in detail


def test_the_probe_reports_that_there_is_no_gpu():
    """The file itself, with the torch of this environment."""
    arguments = json.dumps({"attention": "shared_prompt", "dtype": "bfloat16"})
    command = [sys.executable, "-P", gpu_probe.__file__, arguments]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["cuda"] == torch.version.cuda
    assert report["no_gpu"]
