"""Wrong use of set-up is told in words; the locks hold what it installs."""

import os
import re
import shutil
import subprocess
import sys
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
    """No marker for one Python alone."""
    assert ";" not in (ROOT / "requirements" / lock).read_text()


def lock_check(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["bash", str(folder / "scripts" / "lock.sh"), "--check"]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_a_resolver_finds_the_locks_valid_for_every_offered_python():
    done = lock_check(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    names = [f"requirements/{lock}.txt for Python 3.{minor}" for lock in ("cpu", "gpu") for minor in (11, 12)]
    assert done.stdout.splitlines() == [f"lock.sh: {name} is valid" for name in names]


@pytest.mark.parametrize(
    ("asked", "locked", "python", "complaint"),
    [
        ("six\nsetuptools<81; python_version>='3.12'", "setuptools==81.0.0\nsix==1.17.0", "3.12", "has a conflict"),
        ("colorama", "iniconfig==2.0.0", "3.11", "not asked for: iniconfig==2.0.0\nmissing: colorama=="),
        ("numpy==1.23.5", "numpy==1.23.5", "3.12", "pins what has no wheel"),
    ],
)
def test_a_resolver_finds_what_is_wrong_with_a_lock(tmp_path: Path, asked, locked, python, complaint):
    """A conflict on one Python alone, a package missing, one that nothing asks for, a version without a wheel."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    folder = tmp_path / "requirements"
    shutil.copytree(ROOT / "requirements", folder)
    for target in ("cpu", "gpu"):
        (folder / f"{target}.in").write_text("six\n" if target == "cpu" else f"{asked}\n")
        (folder / f"{target}.txt").write_text("six==1.17.0\n" if target == "cpu" else f"{locked}\n")
        (folder / f"{target}-overrides.txt").write_text("")
    before = {path: path.read_text() for path in folder.iterdir()}
    done = lock_check(tmp_path)
    assert done.returncode == 1
    assert complaint in done.stdout
    assert f"requirements/gpu.txt for Python {python} is valid" not in done.stdout
    assert "requirements/cpu.txt for Python 3.12 is valid" in done.stdout
    assert before == {path: path.read_text() for path in folder.iterdir()}


def test_what_a_build_needs_is_pinned():
    lines = (ROOT / "requirements" / "flash-attn.txt").read_text().splitlines()
    assert all("==" in line for line in lines if not line.startswith("#"))
    lock = (ROOT / "requirements" / "gpu.txt").read_text()
    assert all(f"\n{name}==" in lock for name in ("setuptools", "ninja", "psutil", "packaging", "einops", "torch"))


def test_gpu_lock_follows_what_verl_pins_for_vllm():
    text = (ROOT / "requirements" / "gpu.txt").read_text() + (ROOT / "requirements" / "flash-attn.txt").read_text()
    for pin in ("torch==2.11.0", "vllm==0.24.0", "transformers==5.9.0", "flash-attn==2.8.3", "verl==0.9.1"):
        assert f"\n{pin} " in text or f"\n{pin}\n" in text, pin
