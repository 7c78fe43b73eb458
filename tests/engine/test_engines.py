"""Our engines compared with verl's, inside verl, with the same weights and rows: values, order, gradients."""

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest
import torch
from verl_longrl.platform.zygote import Zygote

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
    "split groups, checkpointing, tied, chunks of entropy": {
        "wrong": ["unordered"],
        "budget": 120,
        "tied": True,
        "checkpointing": True,
        "chunked": True,
        "temperature": 1.0,
        "modes": ["token-mean"],
    },
    "two ranks with different numbers of groups": {"groups": [[1, 3, 8], [2, 2, 2, 2, 2, 1, 1]], "budget": 200},
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
        "groups": [[1, 3, 8]] * 4,
        "seeds": [0] * 4,
        "budget": 100,
        "sequence": 4,
        "padding_free": True,
        "attention": "ulysses_attention",
    },
}


@pytest.fixture(scope="module")
def python():
    """A Python whose slow imports are done: they would take each of the dozen ranks most of its time."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    with Zygote(
        environment, ("torch.distributed.fsdp", "tensordict", "transformers.models.qwen3.modeling_qwen3")
    ) as zygote:
        yield str(zygote.executable)


def run_ranks(python: str, folder: Path, case: dict) -> list[dict]:
    """The results of each rank, by engine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    world = len(case["groups"])
    env = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world)}
    env |= {"VERL_PLATFORM": "cpu", "LOCAL_RANK": "0"}
    case = {**case, "ranks": world // case["sequence"]}
    command = [python, str(Path(__file__).parents[1] / "support/engine_rank.py"), str(folder), json.dumps(case)]
    processes = [
        subprocess.Popen(command, env={**env, "RANK": str(rank)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for rank in range(world)
    ]
    outputs = [process.communicate()[0].decode() for process in processes]
    assert all(process.returncode == 0 for process in processes), "\n".join(outputs)[-4000:]
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world)]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_equal_to_verls_engine(python, tmp_path, case):
    for results in run_ranks(python, tmp_path, BASE | case):
        verl = results.pop("upstream")
        for wrong in [results.pop(name) for name in case.get("wrong", [])]:
            pairs = zip(verl["log_probs"], wrong["log_probs"], strict=True)
            assert any(len(a) != len(b) or (a - b).abs().max() > 1e-2 for a, b in pairs)
        for engine, ours in results.items():
            for name in ("log_probs", "entropy"):
                differences = [(a - b).abs().max() for a, b in zip(verl[name], ours[name], strict=True)]
                assert max(differences) < 2e-5, (engine, name)
            assert ours["losses"] == pytest.approx(verl["losses"], rel=1e-5, abs=1e-5), engine
            for loss, gradients in verl["gradients"].items():
                for name, expected in gradients.items():
                    difference = (expected - ours["gradients"][loss][name]).norm()
                    assert difference < 1e-5 * expected.norm() + 1e-6, (engine, loss, name)
        (sharing,) = results["shared_prompt"]["metrics"]["prompt_sharing"]
        assert sharing > 1.3
        assert results["shared_prompt"]["returned"] < verl["returned"] / 2
