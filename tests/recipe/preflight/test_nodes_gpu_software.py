"""What is installed against the GPUs, each failure injected: the probe runs for real, with a torch that is not."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
import torch
from transformers import Qwen2Config

from recipe.longrl import engine_choice, flash_attention, settings
from recipe.longrl.preflight import cluster, nvidia
from recipe.longrl.preflight.nodes import gpu_software, looks
from recipe.longrl.preflight.nodes.question import Driver, Node, Question

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
float32 = "float32"
"""
TRIAL = """
import os
from types import SimpleNamespace
def try_attention(device, dtype):
    {body}
    assert (device, dtype) == ("cuda", "bfloat16")
    return SimpleNamespace(backend="lse_merge", forward_error=0.004, backward_error=0.008, problem={problem!r})
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch):
    """installed(...) -> what the probe imports: a torch on a GPU, the trial of our attention, flash-attn's modules."""
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
        (folder / "verl_longrl" / "engine" / "attention_check.py").write_text(TRIAL.format(body=body, problem=problem))
        if flash_attn is not None:
            (folder / "flash_attn_2_cuda.py").write_text(flash_attn)
            (folder / "flash_attn.py").write_text("")
        monkeypatch.setenv("PYTHONPATH", str(folder))

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # as Ray does
    make()
    return make


@pytest.fixture
def look(composed):
    """look(overrides, gpus=..., free=...) -> the findings on a node of 8 GPUs, as (status, detail)."""

    def run(*overrides: str, gpus: float = 8, free: float = 8) -> list[tuple[str, str]]:
        config = composed(*overrides)
        settings.resolve(config)
        list(engine_choice.decide_engine(config, Qwen2Config()))
        list(flash_attention.choose_attention(config, dry_run=True))
        node = Node("0", "n0", "127.0.0.1", gpus, free, 64, 0)
        found = looks.look("GPU software", Question(config, node, Driver("", "")))
        return [(finding.status, finding.detail) for finding in found]

    return run


def test_all_is_well(look, nvidia_smi, installed):
    nvidia_smi(8)
    assert look() == [
        (
            "ok",
            "driver 580.95.05 for CUDA 13.0, compute capability 9.0, attention (lse_merge) tried on one GPU: "
            "largest error {} forward and {} backward, a C compiler with Python's headers",
        )
    ]


def test_devices_of_a_cpu_are_not_looked_at(look, program):
    program("nvidia-smi", "exit 1")
    assert look("hardware=cpu") == []


def test_a_head_node_without_gpus_needs_nothing(look, program, monkeypatch):
    program("nvidia-smi", "exit 1")
    assert look(gpus=0) == []


def test_the_driver_is_too_old_for_torch(look, nvidia_smi, installed):
    nvidia_smi(8, driver="550.54.15")
    installed(init="raise RuntimeError('The NVIDIA driver on your system is too old (found version 12040).')")
    ((status, detail),) = look()
    assert status == "FAIL"
    assert "torch sees no GPU: driver 550.54.15 is older than 580.65.06, the least for CUDA 13.0" in detail
    assert "Fix: install an NVIDIA driver of 580 or later" in detail


def test_an_old_driver_with_cudas_forward_compatibility(look, nvidia_smi, installed):
    nvidia_smi(8, driver="550.54.15")
    assert look()[0][0] == "ok"


def test_too_few_gpus_is_not_said_where_torch_does_not_see_them(composed, nvidia_smi, monkeypatch):
    nvidia_smi(8, driver="550.54.15")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    config = composed()
    settings.resolve(config)
    (line,) = cluster.checks(config, dry_run=False)
    assert line.status == "FAIL"
    assert "torch sees 0 of the 8 GPUs that nvidia-smi shows: driver 550.54.15 is older than 580.65.06" in line.detail
    assert "too few GPUs" not in line.detail
    nvidia_smi(8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    (line,) = cluster.checks(config, dry_run=False)
    assert "that nvidia-smi shows: CUDA_VISIBLE_DEVICES = 0,1" in line.detail


@pytest.mark.parametrize(
    ("driver", "cuda", "old"),
    [
        ("550.54.15", "13.0", True),
        ("580.65.06", "13.0", False),
        ("580.9", "13.0", True),
        ("610.1", "13.2", False),
        ("525.60.13", "12.8", False),
        ("470.82.01", "12.8", True),
        ("470.82.01", "11.8", False),
        (None, "13.0", False),
        ("550.54.15", "14.1", False),  # not in the table, so nothing is known against it
        ("550.54.15", None, False),
    ],
)
def test_the_least_driver_of_a_cuda_version(driver, cuda, old):
    answer = nvidia.Answer([nvidia.Card("GPU-0", "H100", driver, None, None)], [])
    assert (nvidia.driver_problem(answer, cuda) is not None) == old


def test_a_torch_without_cuda(look, nvidia_smi, installed, monkeypatch):
    nvidia_smi(8)
    installed(init="raise AssertionError('Torch not compiled with CUDA enabled')")
    monkeypatch.setattr(torch.version, "cuda", None)
    ((status, detail),) = look()
    assert status == "FAIL"
    assert "torch is built without CUDA. Fix: bash scripts/setup.sh gpu" in detail


def test_a_gpu_without_bfloat16(look, nvidia_smi, installed):
    nvidia_smi(8)
    installed(capability=(7, 0), problem="FlashAttention needs compute capability 8.0")
    ((status, detail),) = look()
    assert status == "FAIL"
    assert "compute capability 7.0; bfloat16 and FlashAttention need 8.0 (A100 and later)" in detail


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"problem": "the backward is off by 0.4"}, "attention tried on one GPU: the backward is off by 0.4"),
        (
            {"body": "raise RuntimeError('CUDA error: no kernel image is available\\nmore')"},
            "attention tried on one GPU: RuntimeError: CUDA error: no kernel image is available",
        ),
        ({"body": "os.abort()"}, "torch sees no GPU: torch broke on a GPU: "),
        ({"init": "print('a banner'); os._exit(0)"}, "torch's answer cannot be read"),
    ],
)
def test_attention_that_does_not_work(look, nvidia_smi, installed, how, said):
    nvidia_smi(8)
    installed(**how)
    ((status, detail),) = look()
    assert status == "FAIL"
    assert said in detail


def test_a_gpu_that_hangs(look, nvidia_smi, installed, monkeypatch):
    nvidia_smi(8)
    installed(init="import time; time.sleep(60)")
    monkeypatch.setattr(gpu_software, "PROBE_TIMEOUT_S", 1.0)
    started = time.monotonic()
    ((status, detail),) = look()
    assert status == "FAIL"
    assert "torch did not answer on a GPU within 1 s" in detail
    assert time.monotonic() - started < 20


def test_the_probe_sees_the_gpu_with_least_in_use(look, nvidia_smi, installed, monkeypatch):
    nvidia_smi(1, used=70000, more=["GPU-free, NVIDIA H100 80GB HBM3, 580.95.05, 0, 81559"])
    installed(init="assert os.environ['CUDA_VISIBLE_DEVICES'] == 'GPU-free', os.environ['CUDA_VISIBLE_DEVICES']")
    assert look(gpus=2, free=2)[0][0] == "ok"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")  # the user's own choice
    assert "AssertionError: 3" in look(gpus=2, free=2)[0][1]


def test_gpus_of_another_job_are_left_alone(look, nvidia_smi, installed):
    nvidia_smi(8)
    installed(init="raise RuntimeError('not to be asked')")
    ((status, detail),) = look(free=0)
    assert status == "ok"
    assert "attention not tried: other jobs have all GPUs at the moment" in detail


def test_no_c_compiler(look, nvidia_smi, installed, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(gpu_software.shutil, "which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    nvidia_smi(8)
    ((status, detail),) = look()
    assert status == "FAIL"
    assert "no C compiler (gcc or clang on the PATH, or CC)" in detail
    assert "Fix: apt-get install gcc libc6-dev python3." in detail


def test_no_python_headers(monkeypatch, tmp_path: Path):
    assert gpu_software.compiler_problem() is None
    monkeypatch.setattr(gpu_software.sysconfig, "get_paths", lambda scheme: {"include": str(tmp_path / "absent")})
    problem = gpu_software.compiler_problem()
    assert "Python.h: No such file" in problem
    assert f"against Python's headers in {tmp_path / 'absent'}" in problem


@pytest.mark.parametrize("compiler", ["/no/such/cc", "/bin/false"])
def test_a_compiler_that_does_not_run(compiler: str, monkeypatch):
    monkeypatch.setenv("CC", compiler)
    assert compiler in gpu_software.compiler_problem()


UPSTREAM = ("longrl.engine=upstream", "actor_rollout_ref.actor.ulysses_sequence_parallel_size=1")
ASKED = f"+actor_rollout_ref.model.override_config.attn_implementation={flash_attention.FLASH}"


def test_flash_attn_where_it_will_be_used(look, nvidia_smi, installed):
    nvidia_smi(8)
    ((status, detail),) = look(*UPSTREAM, ASKED)
    assert status == "FAIL"
    assert "override_config.attn_implementation = flash_attention_2: flash-attn is not installed" in detail
    installed(flash_attn="raise ImportError('undefined symbol: _ZN3c104cuda9SetDeviceEi')")
    ((status, detail),) = look(*UPSTREAM, ASKED)
    assert status == "FAIL"
    assert "cannot be imported (ImportError: undefined symbol: _ZN3c104cuda9SetDeviceEi)" in detail
    assert look(ASKED)[0][0] == "FAIL"  # the shared prompt does not compute with it, but the model is loaded so


def test_a_broken_flash_attn_that_is_not_used(look, nvidia_smi, installed):
    nvidia_smi(8)
    installed(flash_attn="raise ImportError('undefined symbol')")
    found = look()
    assert [status for status, _ in found] == ["warn"]
    assert "flash-attn is installed and cannot be imported (ImportError: undefined symbol)" in found[0][1]


def test_flash_attn_is_tried_where_it_computes(look, nvidia_smi, installed):
    nvidia_smi(8)
    installed(flash_attn="")
    ((status, detail),) = look(*UPSTREAM, ASKED)  # this flash_attn has no function
    assert status == "FAIL"
    assert "attention tried on one GPU: " in detail


def test_this_machine_is_looked_at_before_a_run_of_its_own(composed, nvidia_smi, installed, monkeypatch):
    """Not before a dry run, a run in a cluster, or one without GPUs."""
    nvidia_smi(8, driver="550.54.15")
    installed(init="raise RuntimeError('too old')")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)

    def lines(*overrides: str, dry_run: bool = False) -> list[str]:
        config = composed(*overrides)
        settings.resolve(config)
        return [line.detail for line in gpu_software.here(config, dry_run)]

    assert lines("hardware=cpu") == lines(dry_run=True) == []
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert lines() == []
    monkeypatch.setenv("RAY_ADDRESS", "local")
    (detail,) = lines()
    assert "550.54.15 is older" in detail


def test_numbers_are_in_the_line_of_this_machine(composed, nvidia_smi, installed, monkeypatch):
    nvidia_smi(8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    config = composed()
    settings.resolve(config)
    list(engine_choice.decide_engine(config, Qwen2Config()))
    (line,) = gpu_software.here(config, dry_run=False)
    assert "tried on one GPU: largest error 0.004 forward and 0.008 backward" in line.detail


def test_cuda_is_not_initialised_in_the_process_that_asks(look, nvidia_smi, installed):
    nvidia_smi(8)
    look()
    assert not torch.cuda.is_initialized()


def test_the_probe_answers_where_there_is_no_gpu():
    """The file itself, with the torch of this environment."""
    command = [os.sys.executable, "-P", gpu_software.probe.__file__]
    asked = json.dumps({"attention": "shared_prompt", "dtype": "bfloat16"})
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*command, asked], capture_output=True, text=True, check=True, env=environment)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["cuda"] == torch.version.cuda
    assert found["problem"]
