"""setup.sh recovers from whatever an earlier call left, told by stand-ins for Python, pip and uv."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PYTHON = """#!/usr/bin/env bash
# Stands for python3.11: answers the version check, makes an environment whose own python logs what it is asked.
case "$1 ${2:-}" in
  "-c "*) exit 0 ;;
  "-m venv")
    mkdir -p "$3/bin"
    echo "python -m venv" >>"$LOG"
    cp "$INSIDE" "$3/bin/python"
    [ -n "${DIE_IN_VENV:-}" ] && { touch "$LOG.in_venv"; sleep 30; }
    printf '#!/usr/bin/env bash\\necho "uv $*" >>"$LOG"\\n' >"$3/bin/uv"; chmod +x "$3/bin/uv"
    touch "$3/has_pip" ;;
esac
"""
INSIDE = """#!/usr/bin/env bash
[ -e "$(dirname "$0")/../has_pip" ] || { echo "No module named pip" >&2; exit 1; }
echo "python $*" | tee -a "$LOG"
"""


class Setup:
    """A copy of what setup.sh needs, and calls of it."""

    def __init__(self, folder: Path) -> None:
        self.repository, self.log, self.venv = folder / "repository", folder / "log", folder / "repository" / ".venv"
        for name in ("scripts/setup.sh", "requirements/cpu.txt", "requirements/gpu.txt", "pyproject.toml"):
            (self.repository / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.repository / name)
        (folder / "bin").mkdir()
        for name, text in (("python3.11", PYTHON), ("inside", INSIDE), ("curl", "#!/bin/sh\nexit 1\n")):
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("LONGRL_")}
        self.environment |= {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "LOG": str(self.log)}
        self.environment |= {"INSIDE": str(folder / "bin" / "inside"), "LONGRL_PYTHON": "python3.11"}

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

    def __call__(self, *arguments: str, cwd: Path | None = None, **environment: str) -> list[str]:
        """The commands that a successful call runs."""
        process = self.start(*arguments, cwd=cwd, **environment)
        _, error = process.communicate(timeout=60)
        assert process.returncode == 0, error
        return self.log.read_text().splitlines()


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


def made_anew(commands: list[str]) -> bool:
    return "python -m venv" in commands


def test_a_second_call_has_nothing_to_do(setup: Setup):
    commands = setup("cpu")
    assert made_anew(commands)
    assert any("uv==" in command for command in commands)
    assert any("--editable ." in command for command in commands)
    assert setup("cpu") == []


def test_a_kill_while_the_environment_is_made(setup: Setup):
    """bin/python is there, pip is not."""
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


def test_a_kill_while_packages_are_installed_goes_on(setup: Setup):
    setup("cpu")
    (setup.venv / ".longrl").write_text("cpu made\n")
    commands = setup("cpu")
    assert commands
    assert not made_anew(commands)


def test_a_changed_lock_is_installed_over(setup: Setup):
    setup("cpu")
    with (setup.repository / "requirements" / "cpu.txt").open("a") as lock:
        lock.write("another==1.0\n")
    commands = setup("cpu")
    assert commands
    assert not made_anew(commands)


def test_another_target_is_made_from_scratch(setup: Setup):
    """What one target must not have (torchvision beside a CPU torch) never stays from the other."""
    setup("gpu")
    (setup.venv / "torchvision").mkdir()
    assert made_anew(setup("cpu"))
    assert not (setup.venv / "torchvision").exists()


@pytest.mark.parametrize("broken", ["bin/python", "has_pip"])
def test_a_broken_environment_is_made_from_scratch(setup: Setup, broken: str):
    setup("cpu")
    (setup.venv / broken).unlink()
    if broken == "has_pip":  # found out when there is something to install
        (setup.venv / ".longrl").write_text("cpu made\n")
    assert made_anew(setup("cpu"))


def test_an_environment_of_someone_elses_is_left_alone(setup: Setup):
    setup.venv.mkdir()
    (setup.venv / "precious").write_text("")
    process = setup.start("cpu")
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "was not made by setup.sh; delete it or set LONGRL_VENV to another place" in error
    assert (setup.venv / "precious").exists()


def test_a_relative_place_is_the_callers(setup: Setup, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert made_anew(setup("cpu", cwd=elsewhere, LONGRL_VENV="env"))
    assert (elsewhere / "env" / "bin" / "python").exists()
    assert not (setup.repository / "env").exists()


def test_no_usable_python_is_named(setup: Setup):
    process = setup.start("cpu", LONGRL_PYTHON="/no/such/python")
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "no Python 3.11 or 3.12 with venv found (tried /no/such/python); set LONGRL_PYTHON to one" in error


def test_without_the_cpu_index_torch_comes_with_what_it_needs(setup: Setup):
    """PyPI's torch does not load without its CUDA libraries, so not --no-deps."""
    (command,) = [c for c in setup("cpu") if c.startswith("python -m pip") and "torch==" in c]
    assert "--no-deps" not in command
