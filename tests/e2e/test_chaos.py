"""A few faults of the campaign, always the same ones."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]
SCRIPT = Path(__file__).parents[2] / "scripts" / "chaos.py"
FAULTS = ("bit_in_weights", "kill_reward_worker", "hung_engine")


def test_faults(assets, tmp_path):
    shutil.copytree(assets, tmp_path / "assets")  # as an earlier campaign has left them
    only = [word for name in FAULTS for word in ("--only", name)]
    command = [sys.executable, str(SCRIPT), "--seed", "18", "--minutes", "25", *only, "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\nok ") == 1 + len(FAULTS), done.stdout  # With the reference.
