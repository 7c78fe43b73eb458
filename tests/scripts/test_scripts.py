"""Wrong use of set-up is told in words; the locks hold what it installs."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_unknown_target_is_named():
    done = subprocess.run(["bash", "scripts/setup.sh", "tpu"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "unknown target 'tpu'; expected cpu, gpu or nothing" in done.stderr


@pytest.mark.parametrize("lock", ["cpu.txt", "gpu.txt"])
def test_locks_are_complete_pins(lock: str):
    lines = [line for line in (ROOT / "requirements" / lock).read_text().splitlines() if line and line[0] not in "# "]
    assert all("==" in line for line in lines), [line for line in lines if "==" not in line]
    names = {line.split("==")[0].lower() for line in lines}
    assert {"verl", "torch", "ray", "transformers", "tensordict", "transferqueue", "pyarrow", "hydra-core"} <= names


def test_cpu_lock_has_no_torch_companions():
    text = (ROOT / "requirements" / "cpu.txt").read_text()
    assert not any(f"\n{name}==" in text for name in ("torchvision", "torchaudio", "torchcodec"))


def test_cpu_lock_has_no_cuda():
    """Whichever index it was resolved from: PyPI's torch asks for it, pytorch.org's CPU build does not."""
    text = (ROOT / "requirements" / "cpu.txt").read_text()
    assert "\nnvidia-" not in text
    assert "\ncuda-" not in text
    torch = re.search(r"^torch==(\S+)", text, flags=re.M)
    assert torch is not None
    assert f'version = "{torch[1]}"' in (ROOT / "requirements" / "uv-lock-cpu.toml").read_text()


@pytest.mark.parametrize("lock", ["cpu.txt", "gpu.txt"])
def test_locks_hold_for_every_offered_python(lock: str):
    """No marker for one Python alone; that all versions exist for 3.12 too, lock.sh checks."""
    assert ";" not in (ROOT / "requirements" / lock).read_text()


def test_gpu_lock_follows_what_verl_pins_for_vllm():
    text = (ROOT / "requirements" / "gpu.txt").read_text()
    for pin in ("torch==2.11.0", "vllm==0.24.0", "transformers==5.9.0", "flash-attn==2.8.3", "verl==0.9.1"):
        assert f"\n{pin} " in text or f"\n{pin}\n" in text, pin
