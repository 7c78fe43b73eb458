"""Every shell script parses and passes shellcheck; those that users start explain themselves and their variables."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
SCRIPTS = [name for name in TRACKED if name.endswith((".sh", ".sbatch")) or name == ".ci/run"]
HEADS = {name: (ROOT / name).read_text().splitlines() for name in SCRIPTS}
LAUNCHERS = [name for name, lines in HEADS.items() if name != ".ci/run" and lines[0].startswith("#!")]  # not sourced
NOT_THE_USERS = ("BASH_SOURCE", "PIP_INDEX_URL", "UV_", "SLURM_", "TMPDIR", "HOME", "USER", "PATH", "PWD")


def test_the_list_is_not_empty():
    assert {"run_longrl.sh", "scripts/setup.sh", "scripts/ray/start.sh", ".ci/run"} <= {*SCRIPTS}


@pytest.mark.parametrize("script", SCRIPTS)
def test_bash_can_read_it(script: str):
    subprocess.run(["bash", "-n", script], cwd=ROOT, check=True)


def test_shellcheck_finds_nothing():
    shellcheck = Path(sys.prefix) / "bin" / "shellcheck"
    done = subprocess.run([str(shellcheck), "--shell=bash", *SCRIPTS], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("script", LAUNCHERS)
def test_help_names_every_variable_and_does_nothing_else(script: str, tmp_path: Path):
    environment = {"PATH": "/usr/bin:/bin", "LONGRL_VENV": str(tmp_path / "absent")}
    command = ["bash", script, "--help"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    header = [line[2:] for line in itertools.takewhile(lambda line: line.startswith("#"), HEADS[script][1:])]
    assert [line for line in header if not line.startswith("BATCH")] == done.stdout.splitlines()
    assert header[0][0].isupper()
    assert f"bash {script}" in done.stdout or script.endswith(".sbatch")
    read = set(re.findall(r"\$\{?([A-Z][A-Z0-9_]{2,})", (ROOT / script).read_text()))
    unnamed = {name for name in read if not name.startswith(NOT_THE_USERS) and name not in done.stdout}
    assert unnamed == set()
    assert not (tmp_path / "absent").exists()
