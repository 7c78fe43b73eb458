"""Our engine against upstream's inside verl, from the same weights on the same rows: values, order, every gradient."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
BASE = {"groups": [[1, 3, 8, 2]], "budget": 1000, "tied": False, "checkpointing": False, "chunked": False}
CASES = {
    "one pack": {},
    "groups cut, checkpointing, tied, chunks of entropy": {
        "budget": 120,
        "tied": True,
        "checkpointing": True,
        "chunked": True,
    },
    "two ranks": {"groups": [[1, 3, 8], [2, 2, 2, 2, 2, 1, 1]], "budget": 200},
}


def ranks(folder: Path, case: dict) -> list[dict]:
    """What each rank found."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    world = len(case["groups"])
    common = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world)}
    common |= {"VERL_PLATFORM": "cpu", "LOCAL_RANK": "0"}
    command = [sys.executable, str(Path(__file__).with_name("engines.py")), str(folder), json.dumps(case)]
    started = [
        subprocess.Popen(command, env={**common, "RANK": str(rank)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for rank in range(world)
    ]
    said = [process.communicate()[0].decode() for process in started]
    assert all(process.returncode == 0 for process in started), "\n".join(said)[-4000:]
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world)]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_as_upstream(tmp_path, case):
    for found in ranks(tmp_path, BASE | case):
        upstream, ours = found["upstream"], found["ours"]
        for name in ("log_probs", "entropy"):
            differences = [(a - b).abs().max() for a, b in zip(upstream[name], ours[name], strict=True)]
            assert max(differences) < 2e-5, name
        pairs = [(upstream["gradients"][name], ours["gradients"][name]) for name in upstream["gradients"]]
        for wanted, got in pairs:
            assert (wanted - got).norm() < 1e-5 * wanted.norm() + 1e-6
        (sharing,) = ours["metrics"]["prompt_sharing"]
        assert sharing > 1.3
