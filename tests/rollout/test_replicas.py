"""Two real vLLM replicas, real balancer actors, real clients: a prompt's eight rollouts cost one prefill.

Counted by vLLM itself, in its own scheduler; the benchmark that publishes the figures is what runs here.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench" / "routing.py"
TIMEOUT_S = 600


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("routing")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, str(SCRIPT), "--no-simulation", "--output", str(folder / "routing.json")]
    with (folder / "console.txt").open("w") as console:
        process = subprocess.Popen(
            command, stdout=console, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    try:
        status = process.wait(TIMEOUT_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert status == 0, (folder / "console.txt").read_text()[-5000:]
    return json.loads((folder / "routing.json").read_text())["replicas"]


@pytest.mark.e2e
def test_a_prompt_is_prefilled_once(measured):
    assert measured["one_replica"]["times_unique"] <= 1.1  # eight at once on one replica: vLLM's own sharing
    ours, upstream = measured["prompt_affinity"], measured["upstream"]
    assert ours["unique"] == upstream["unique"] > 10_000
    assert ours["times_unique"] <= 1.1
    assert upstream["times_unique"] >= 1.5 * ours["times_unique"]
    assert 2 * max(ours["prefilled"]) <= 1.3 * sum(ours["prefilled"])
    # What the balancer believes is what replicas do, up to the last incomplete block of each request.
    requests, believed = ours["balancer"]["requests"], ours["balancer"]["prefill_tokens"]
    assert 0 <= sum(ours["prefilled"]) - believed <= 32 * requests
