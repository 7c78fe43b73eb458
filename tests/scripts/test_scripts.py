"""Wrong arguments of setup.sh are explained."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_unknown_target_is_named():
    done = subprocess.run(["bash", "scripts/setup.sh", "tpu"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "unknown target 'tpu'; expected cpu, gpu, eval, bfcl or nothing" in done.stderr
