"""setup.sh recovers from whatever an earlier call left and does without what cannot be had; Python, pip and uv are
scripts here that log what they are asked."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = "bash cat chmod cp cut dirname env find flock grep head ls mkdir mktemp mv rm sed sha256sum sleep tee touch"
"""The programs on PATH, besides those that a test adds."""

PYTHON = """#!/usr/bin/env bash
# A Python of the version in its name: answers the version check, makes an environment whose own python logs its calls.
case "$1 ${2:-}" in
  "-c "*) [[ "$0" != *3.13 && "$0" != *python3 ]] ;;
  "-m venv")
    mkdir -p "$3/bin"
    echo "${0##*/} -m venv" >>"$LOG"
    cp "$INSIDE" "$3/bin/python"
    [ -n "${DIE_IN_VENV:-}" ] && { touch "$LOG.in_venv"; sleep 30; }
    cp "$UV" "$3/bin/uv"
    touch "$3/has_pip" ;;
esac
"""
INSIDE = """#!/usr/bin/env bash
venv=$(dirname "$0")/..
[ -e "$venv/has_pip" ] || { echo "No module named pip" >&2; exit 1; }
case "$*" in
  *get_path*) echo "$HEADERS" ;;
  *torch.version.cuda*) echo 13 ;;
  *flash_attn_2_cuda*) [ -e "$venv/flash_attn_loads" ] ;;
  *) echo "python $*" | tee -a "$LOG"
    case "$* ${BUILD:-}" in *flash-attn.txt*works) echo "  [1/73] nvcc -c a.cu"; touch "$venv/flash_attn_loads" ;;
      *flash-attn.txt*) echo "ninja: build stopped"; exit 1 ;;
      *torch-cpu.txt*) [ -z "${ONLY_PYPI:-}" ] ;; esac ;;
esac
"""
UV = """#!/usr/bin/env bash
echo "uv $*" >>"$LOG"
case "$*" in
  "python install 3.12")
    [ -n "${GITHUB:-}" ] || { echo "error: Failed to install cpython-3.12" >&2; exit 1; }
    mkdir -p "$UV_PYTHON_INSTALL_DIR/cpython-3.12/bin"
    cp "$(command -v python3.12-of-uv)" "$UV_PYTHON_INSTALL_DIR/cpython-3.12/bin/python3.12" ;;
esac
"""
NVIDIA_SMI = """#!/usr/bin/env bash
[ -n "${DRIVER:-}" ] || exit 9
echo "$DRIVER"
"""


class SetupScript:
    """Runs a copy of setup.sh with fake tools."""

    def __init__(self, folder: Path) -> None:
        self.repository, self.log, self.venv = folder / "repository", folder / "log", folder / "repository" / ".venv"
        for name in ("scripts", "requirements"):
            shutil.copytree(ROOT / name, self.repository / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", self.repository)
        self.bin = folder / "bin"
        self.bin.mkdir()
        for tool in TOOLS.split():
            (self.bin / tool).symlink_to(str(shutil.which(tool)))
        self.put(**{"python3.11": PYTHON, "python3.12": PYTHON, "inside": INSIDE, "uv-inside": UV})
        self.put(**{"nvidia-smi": NVIDIA_SMI, "gcc": "#!/bin/sh\n", "g++": "#!/bin/sh\n"})
        self.put(curl='#!/bin/sh\n[ -n "$PYTORCH_ORG" ]\n')
        self.error = self.output = ""
        (folder / "Python.h").touch()
        self.environment = {"PATH": str(self.bin), "HOME": str(folder), "LOG": str(self.log), "HEADERS": str(folder)}
        self.environment |= {"INSIDE": str(self.bin / "inside"), "UV": str(self.bin / "uv-inside"), "PYTORCH_ORG": ""}

    def put(self, **scripts: str) -> None:
        for name, text in scripts.items():
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)

    def cuda(self, release: str) -> str:
        """A CUDA toolkit's folder."""
        self.put(nvcc=f'#!/bin/sh\necho "Cuda compilation tools, release {release}, V{release}.88"\n')
        folder = self.bin.with_name("cuda")
        (folder / "bin").mkdir(parents=True)
        (self.bin / "nvcc").rename(folder / "bin" / "nvcc")
        return str(folder)

    def start(self, *arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.Popen[str]:
        self.log.write_text("")
        return subprocess.Popen(
            ["bash", str(self.repository / "scripts" / "setup.sh"), *arguments],
            cwd=cwd or self.repository,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __call__(self, *arguments: str, cwd: Path | None = None, status: int = 0, **environment: str) -> list[str]:
        """The commands that a call with this exit status runs; what it says is in `output` and `error`."""
        process = self.start(*arguments, cwd=cwd, **environment)
        self.output, self.error = process.communicate(timeout=60)
        assert process.returncode == status, self.error
        return self.log.read_text().splitlines()


@pytest.fixture
def setup(tmp_path: Path) -> SetupScript:
    return SetupScript(tmp_path)


def made_anew(commands: list[str]) -> bool:
    return any(command.endswith("-m venv") for command in commands)


def test_a_second_call_does_nothing(setup: SetupScript):
    commands = setup("cpu")
    assert made_anew(commands)
    assert any(command.endswith("-r requirements/uv.txt") for command in commands)
    assert any("--editable ." in command for command in commands)
    assert setup("cpu") == []


def test_a_kill_while_the_environment_is_created(setup: SetupScript):
    """bin/python exists, pip does not."""
    process = setup.start("cpu", DIE_IN_VENV="1")
    deadline = time.monotonic() + 30
    while not setup.log.with_name("log.in_venv").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert (setup.venv / "bin" / "python").exists()
    assert made_anew(setup("cpu"))
    assert setup("cpu") == []


def test_a_kill_while_packages_are_installed_resumes(setup: SetupScript):
    setup("cpu")
    (setup.venv / ".longrl").write_text("cpu made\n")
    commands = setup("cpu")
    assert commands
    assert not made_anew(commands)


def test_a_changed_lock_is_installed_into_the_environment(setup: SetupScript):
    setup("cpu")
    with (setup.repository / "requirements" / "cpu.txt").open("a") as lock:
        lock.write("another==1.0\n")
    commands = setup("cpu")
    assert commands
    assert not made_anew(commands)


def test_another_target_is_built_from_scratch(setup: SetupScript):
    """Packages that one target must not have (torchvision with a CPU torch) do not remain from the other."""
    setup("gpu")
    (setup.venv / "torchvision").mkdir()
    assert made_anew(setup("cpu"))
    assert not (setup.venv / "torchvision").exists()


@pytest.mark.parametrize("broken", ["bin/python", "has_pip"])
def test_a_broken_environment_is_rebuilt(setup: SetupScript, broken: str):
    setup("cpu")
    (setup.venv / broken).unlink()
    if broken == "has_pip":  # Noticed when there is something to install.
        (setup.venv / ".longrl").write_text("cpu made\n")
    assert made_anew(setup("cpu"))


def test_a_foreign_environment_is_left_alone(setup: SetupScript):
    setup.venv.mkdir()
    (setup.venv / "precious").write_text("")
    setup("cpu", status=1)
    assert "was not made by setup.sh. Fix: delete it, or set LONGRL_VENV to another folder" in setup.error
    assert (setup.venv / "precious").exists()


def test_a_relative_path_is_relative_to_the_caller(setup: SetupScript, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert made_anew(setup("cpu", cwd=elsewhere, LONGRL_VENV="env"))
    assert (elsewhere / "env" / "bin" / "python").exists()
    assert not (setup.repository / "env").exists()


def test_an_unusable_python_is_named(setup: SetupScript):
    setup("cpu", status=1, LONGRL_PYTHON="/no/such/python")
    assert (
        "no Python 3.11 or 3.12 with venv found (tried /no/such/python). Fix: set LONGRL_PYTHON to one" in setup.error
    )


@pytest.fixture
def only_newer(setup: SetupScript) -> SetupScript:
    """A machine that has only Python 3.13."""
    (setup.bin / "python3.12").rename(setup.bin / "python3.12-of-uv")
    (setup.bin / "python3.11").rename(setup.bin / "python3")
    return setup


@pytest.mark.parametrize("uv_on_path", [True, False])
def test_uv_downloads_a_missing_python(only_newer: SetupScript, uv_on_path: bool):
    if uv_on_path:
        only_newer.put(uv=UV)
    commands = only_newer("cpu", GITHUB="reached")
    assert "uv python install 3.12" in commands
    assert commands.count("python3 -m venv") == (0 if uv_on_path else 1)
    assert "python3.12 -m venv" in commands
    only_newer("cpu", LONGRL_VENV=str(only_newer.venv))
    shutil.rmtree(only_newer.venv)
    commands = only_newer("cpu")
    assert made_anew(commands)
    assert "uv python install 3.12" not in commands


def test_a_failed_download_explains_how_to_get_a_python(only_newer: SetupScript):
    assert "uv python install 3.12" in only_newer("cpu", status=1)
    last = only_newer.error.splitlines()[-1]
    assert last.startswith("setup: no Python 3.11 or 3.12, and uv could not download one")
    for way in ("apt install", "dnf install", "pyenv install", "conda create", "uv python install", "LONGRL_PYTHON"):
        assert way in last
    assert not only_newer.venv.exists()


def test_setup_works_without_flash_attn(setup: SetupScript):
    """The long build starts only if requested."""
    commands = setup("gpu")
    assert any("--editable ." in command for command in commands)
    assert not builds(commands)
    (message,) = [line for line in setup.output.splitlines() if "flash-attn" in line]
    assert "does not need it" in message
    assert "LONGRL_BUILD_FLASH_ATTN=1 bash scripts/setup.sh gpu" in message
    assert setup("gpu") == []


@pytest.mark.parametrize("loads", [True, False])
def test_an_installed_flash_attn_stays_if_it_loads(setup: SetupScript, loads: bool):
    setup("gpu")
    (setup.venv / ".flash-attn").unlink()  # as after a new lock, or a kill before flash-attn
    if loads:
        (setup.venv / "flash_attn_loads").touch()
    commands = setup("gpu")
    assert [command for command in commands if " install " in command] == []
    assert ("flash-attn==2.8.3 is installed" in setup.output) == loads
    assert ("uv pip uninstall --quiet flash-attn" in commands) != loads
    assert setup("gpu") == []


def builds(commands: list[str]) -> bool:
    return any(command.startswith("python -m pip") and "flash-attn.txt" in command for command in commands)


def test_a_build_in_a_complete_environment(setup: SetupScript):
    setup("gpu")
    variables = {"LONGRL_BUILD_FLASH_ATTN": "1", "CUDA_HOME": setup.cuda("13.0")}
    assert builds(setup("gpu", **variables, BUILD="works"))
    assert "30 to 90 minutes" in setup.output
    assert "setup: flash-attn [1/73]\n" in setup.output
    assert "flash-attn==2.8.3 is installed" in setup.output
    assert setup("gpu", **variables) == []


def test_a_failed_build_is_not_repeated(setup: SetupScript):
    variables = {"LONGRL_BUILD_FLASH_ATTN": "1", "CUDA_HOME": setup.cuda("13.2")}
    assert builds(setup("gpu", **variables))
    assert "its build failed" in setup.output
    assert "ninja: build stopped" in (setup.venv / "flash-attn.log").read_text()
    assert setup("gpu", **variables) == []


@pytest.mark.parametrize(
    ("cuda", "compiler", "missing"),
    [("12.8", "g++", "no nvcc 13.x to build it with"), ("13.0", "/no/g++", "no C++ compiler to build it with")],
)
def test_an_impossible_build_is_not_started(setup: SetupScript, cuda: str, compiler: str, missing: str):
    variables = {"LONGRL_BUILD_FLASH_ATTN": "1", "CUDA_HOME": setup.cuda(cuda), "CXX": compiler}
    assert not builds(setup("gpu", **variables, BUILD="works"))
    assert missing in setup.output


@pytest.mark.parametrize(
    ("driver", "old"),
    [("570.86.15", True), ("535.54", True), ("580.65.06", False), ("610.1", False), ("[N/A]", False), ("", False)],
)
def test_an_old_driver_is_named_before_the_download(setup: SetupScript, driver: str, old: bool):
    setup("gpu", DRIVER=driver)
    assert (f"WARNING: the NVIDIA driver is {driver}, but torch with CUDA 13 needs 580 or later" in setup.error) == old
    assert ("driver" in setup.error) == old


def test_the_driver_is_the_one_for_the_locked_cuda():
    assert "\ncuda-toolkit==13." in (ROOT / "requirements" / "gpu.txt").read_text()


@pytest.mark.parametrize("missing", ["gcc", "headers", ""])
def test_missing_requirements_of_triton_are_reported(setup: SetupScript, missing: str):
    if missing == "gcc":
        (setup.bin / "gcc").unlink()
    setup("gpu", **({"HEADERS": "/absent/python3.12"} if missing == "headers" else {}))
    assert ("WARNING: no C compiler or no" in setup.error) == bool(missing)
    if missing == "headers":
        assert "apt install gcc python3.12-dev" in setup.error


@pytest.mark.parametrize(("target", "torch"), [("eval", False), ("bfcl", True)])
def test_the_environment_of_a_tool_is_beside_ours(setup: SetupScript, target: str, torch: bool):
    """Neither rebuilds the other, and LongRL is not installed into it."""
    setup("cpu")
    commands = setup(target)
    assert (setup.venv.with_name(f".venv-{target}") / "bin/python").exists()
    assert any(command.endswith(f"--require-hashes -r requirements/{target}.txt") for command in commands)
    assert any("torch-cpu.txt" in command for command in commands) == torch
    assert not any("--editable" in command for command in commands)
    assert setup(target) == setup("cpu") == []


@pytest.mark.parametrize(
    ("available", "locks"),
    [
        ({"PYTORCH_ORG": "reached"}, ["uv torch-cpu.txt"]),
        ({}, ["python torch-cpu.txt"]),
        ({"ONLY_PYPI": "yes"}, ["python torch-cpu.txt", "uv torch-cuda.txt"]),
    ],
)
def test_the_source_of_torch_without_a_gpu(setup: SetupScript, available: dict[str, str], locks: list[str]):
    """pytorch.org, then pip's indexes, then PyPI, whose build needs its CUDA libraries to load."""
    commands = [command for command in setup("cpu", **available) if "torch-" in command]
    assert [f"{command.split()[0]} {command.rsplit('/')[-1]}" for command in commands] == locks


@pytest.mark.parametrize(
    ("target", "machine"),
    [
        ("cpu", {"PYTORCH_ORG": "reached"}),
        ("cpu", {"ONLY_PYPI": "yes"}),
        ("gpu", {"LONGRL_BUILD_FLASH_ATTN": "1", "BUILD": "works"}),
        ("bfcl", {"ONLY_PYPI": "yes"}),
    ],
)
@pytest.mark.parametrize("downloaded_python", [False, True])
def test_only_files_with_locked_hashes_are_installed(
    setup: SetupScript, target: str, machine: dict[str, str], downloaded_python: bool, request: pytest.FixtureRequest
):
    if downloaded_python:
        request.getfixturevalue("only_newer")
    if target == "gpu":
        machine = machine | {"CUDA_HOME": setup.cuda("13.0")}
    installs = [c for c in setup(target, GITHUB="reached", **machine) if " install " in c and "uv python" not in c]
    assert len(installs) >= 3
    for command in installs:
        if command.startswith("uv "):  # what a package is built with, too
            assert "--build-constraints requirements/build.txt" in command
        if not command.endswith("--editable ."):
            assert "--require-hashes" in command
            named = [word for word in command.split() if "==" in word]
            assert named == [], "comes from a lock"
