"""Our engines against verl's inside verl, from the same weights on the same rows: values, order, every gradient."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
MODES = ["token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"]
BASE = {
    "groups": [[1, 3, 8, 2]],
    "seeds": [0, 1],
    "padding": 2,
    "budget": 1000,
    "sequence": 1,
    "padding_free": False,
    "attention": "sdpa",
    "temperature": None,
    "modes": [],
    "tied": False,
    "checkpointing": False,
    "chunked": False,
    "wrong": [],
    "lora": 0,
}
CASES = {
    "one pack, every loss": {"temperature": 0.7, "modes": MODES},
    "groups cut, checkpointing, tied, chunks of entropy": {
        "wrong": ["disordered"],
        "budget": 120,
        "tied": True,
        "checkpointing": True,
        "chunked": True,
        "temperature": 1.0,
        "modes": ["token-mean"],
    },
    "two ranks with other numbers of groups": {"groups": [[1, 3, 8], [2, 2, 2, 2, 2, 1, 1]], "budget": 200},
    "adapters": {"lora": 4, "checkpointing": True},
    "padding-free": {"padding_free": True, "attention": "ulysses_attention", "budget": 300},
    "two ranks share the sequence": {
        "groups": [[1, 3, 8], [1, 3, 8]],
        "seeds": [0, 0],
        "sequence": 2,
        "padding_free": True,
        "attention": "ulysses_attention",
        "budget": 100,
        "checkpointing": True,
        "modes": ["token-mean"],
    },
    "four ranks share the sequence, two key-value heads": {
        "kinds": [
            "upstream",
            "shared_prompt",
        ],  # verl's flash attention repeats the heads, ours of the test does not
        "groups": [[1, 3, 8]] * 4,
        "seeds": [0] * 4,
        "budget": 100,
        "sequence": 4,
        "padding_free": True,
        "attention": "ulysses_attention",
    },
}


def ranks(folder: Path, case: dict) -> list[dict]:
    """What each rank found."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    world = len(case["groups"])
    common = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world)}
    common |= {"VERL_PLATFORM": "cpu", "LOCAL_RANK": "0"}
    case = {**case, "ranks": world // case["sequence"]}
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
        upstream = found.pop("upstream")
        for wrong in [found.pop(name) for name in case.get("wrong", [])]:
            pairs = zip(upstream["log_probs"], wrong["log_probs"], strict=True)
            assert any(len(a) != len(b) or (a - b).abs().max() > 1e-2 for a, b in pairs)
        for engine, ours in found.items():
            for name in ("log_probs", "entropy"):
                differences = [(a - b).abs().max() for a, b in zip(upstream[name], ours[name], strict=True)]
                assert max(differences) < 2e-5, (engine, name)
            assert ours["losses"] == pytest.approx(upstream["losses"], rel=1e-5, abs=1e-5), engine
            for loss, gradients in upstream["gradients"].items():
                for name, wanted in gradients.items():
                    difference = (wanted - ours["gradients"][loss][name]).norm()
                    assert difference < 1e-5 * wanted.norm() + 1e-6, (engine, loss, name)
        (sharing,) = found["shared_prompt"]["metrics"]["prompt_sharing"]
        assert sharing > 1.3
        assert (
            found["shared_prompt"]["carried"] < upstream["carried"] / 2
        )  # what a log-prob pass sends through the driver
