"""Locks pin every file that setup installs, and lock.sh --check reports errors in them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements"
LOCKS = ("cpu.txt", "gpu.txt", "torch-cpu.txt", "torch-cuda.txt", "build.txt", "uv.txt", "flash-attn.txt", "audit.txt")
LOCKS += ("eval.txt", "bfcl.txt")
SIX = "six==1.17.0 --hash=sha256:4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274\n"


def pins(lock: str) -> dict[str, str]:
    """Package -> version of a lock in requirements/."""
    return dict(re.findall(r"^([a-z0-9-]+)==([^\s\\]+)", (REQUIREMENTS / lock).read_text(), flags=re.M))


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_of_a_lock_has_a_version_and_hashes(lock: str):
    text = re.sub(r"^ *#.*\n", "", (REQUIREMENTS / lock).read_text(), flags=re.M)
    entries = text.replace("\\\n", " ").splitlines()
    assert entries
    hashed = re.compile(r"[a-z0-9-]+==[^\s;]+( +--hash=sha256:[0-9a-f]{64})+")
    assert [entry for entry in entries if not hashed.fullmatch(entry)] == []


@pytest.mark.parametrize("lock", ["cpu.txt", "gpu.txt"])
def test_the_main_packages_are_locked(lock: str):
    names = {"verl", "torch", "ray", "transformers", "tensordict", "transferqueue", "pyarrow", "hydra-core"}
    assert names <= pins(lock).keys()


def test_cpu_lock_has_no_torch_companions_and_no_cuda():
    """PyPI's torch would require them."""
    unwanted = re.compile("torchvision|torchaudio|torchcodec|nvidia-.*|cuda-.*")
    assert [name for name in pins("cpu.txt") if unwanted.fullmatch(name)] == []


def test_all_packages_of_torch_have_one_version():
    torch = pins("cpu.txt")["torch"]
    assert f'version = "{torch}"' in (REQUIREMENTS / "uv-lock-cpu.toml").read_text()
    assert pins("torch-cpu.txt") == {"torch": f"{torch}+cpu"}
    cuda, cpu = pins("torch-cuda.txt"), pins("cpu.txt")
    assert cuda["torch"] == torch
    assert any(name.startswith("nvidia-") for name in cuda)
    assert {name: version for name, version in cuda.items() if cpu.get(name, version) != version} == {}


def test_the_locks_of_tools_have_no_cuda_and_no_gpl():
    assert not {"torch", "zhconv"} & pins("eval.txt").keys()
    assert pins("bfcl.txt")["torch"] == pins("cpu.txt")["torch"]
    assert [name for name in pins("bfcl.txt") if name == "html2text" or name.startswith("nvidia-")] == []


def test_build_requirements_are_pinned():
    """The builds of LongRL and of source packages are isolated; flash-attn's is not, because it needs torch."""
    assert {"hatchling", "setuptools"} <= pins("build.txt").keys()
    assert {"setuptools", "wheel", "ninja", "psutil", "packaging", "einops", "torch"} <= pins("gpu.txt").keys()


def test_gpu_lock_follows_verls_pins_for_vllm():
    """Except for transformers, whose 5.9.0 may write a hostile model's templates outside the checkpoint."""
    locked = pins("gpu.txt") | pins("flash-attn.txt")
    pinned = {"torch": "2.11.0", "vllm": "0.24.0", "flash-attn": "2.8.3", "verl": "0.9.1"}
    assert {name: locked[name] for name in pinned} == pinned
    assert locked["transformers"] == pins("cpu.txt")["transformers"]


def lock_check(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["bash", str(folder / "scripts" / "lock.sh"), "--check"]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_locks_are_valid_for_every_supported_python():
    done = lock_check(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    targets = ("bfcl", "cpu", "eval", "gpu")
    names = [f"requirements/{lock}.txt for Python 3.{minor}" for lock in targets for minor in (11, 12)]
    assert done.stdout.splitlines() == [f"lock.sh: {name} is valid" for name in names]


@pytest.mark.parametrize(
    ("required", "locked", "python", "message"),
    [
        ("six\nsetuptools<81; python_version>='3.12'", "setuptools==81.0.0\nsix==1.17.0", "3.12", "has a conflict"),
        ("colorama", "iniconfig==2.0.0", "3.11", "not required: iniconfig==2.0.0\nmissing: colorama=="),
        ("numpy==1.23.5", "numpy==1.23.5", "3.12", "pins versions without a wheel"),
        ("six", SIX.replace("4721", "4722"), "3.11", "six==1.17.0 --hash=sha256:4722f391"),
        ("six", "six==1.17.0", "3.11", "without hashes: six==1.17.0"),
    ],
)
def test_errors_in_a_lock_are_reported(tmp_path: Path, required, locked, python, message):
    """A conflict with one Python only, a missing package, one that is not required, a version without a wheel, a file
    that PyPI does not have, no hash."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    folder = tmp_path / "requirements"
    shutil.copytree(REQUIREMENTS, folder)
    for target in ("cpu", "gpu", "eval", "bfcl"):
        (folder / f"{target}.in").write_text(f"{required}\n" if target == "gpu" else "six\n")
        (folder / f"{target}.txt").write_text(f"{locked}\n" if target == "gpu" else SIX)
        (folder / f"{target}-overrides.txt").write_text("")
    before = {path: path.read_text() for path in folder.iterdir()}
    done = lock_check(tmp_path)
    assert done.returncode == 1
    assert message in done.stdout
    assert f"requirements/gpu.txt for Python {python} is valid" not in done.stdout
    assert "requirements/cpu.txt for Python 3.12 is valid" in done.stdout
    assert before == {path: path.read_text() for path in folder.iterdir()}
