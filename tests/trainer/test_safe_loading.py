"""The types in checkpoints are loaded; a pickle that calls anything else is refused and not run."""

import os
import random
from pathlib import Path

import numpy as np
import pytest
from verl_longrl.trainer import safe_loading
from verl_longrl.trainer.checkpoints import CheckpointError

pytestmark = pytest.mark.engine


class Attack:
    def __init__(self, call, *arguments) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.fixture
def one_rank():
    """A process group of this process alone, for tensors that are sharded."""
    import torch.distributed as dist

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def state() -> dict:
    """A value of every kind that a rank or the trainer saves."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor
    from verl.utils.checkpoint.checkpoint_manager import BaseCheckpointManager
    from verl.utils.torch_functional import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup

    flat = init_device_mesh("cpu", (1,), mesh_dim_names=("fsdp",))
    hybrid = init_device_mesh("cpu", (1, 1), mesh_dim_names=("ddp", "fsdp"))
    weight = torch.nn.Parameter(distribute_tensor(torch.ones(4, 2), flat, [Shard(0)]))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()
    schedules = [get_cosine_schedule_with_warmup(optimizer, 3, 10), get_constant_schedule_with_warmup(optimizer, 3)]
    extra = {"lr_scheduler": [one.state_dict() for one in schedules], "rng": BaseCheckpointManager.get_rng_state()}
    return {
        "weights": {"a": weight.detach(), "b": distribute_tensor(torch.ones(4, 2), hybrid, [Replicate(), Shard(0)])},
        "optimizer": optimizer.state_dict(),
        "extra": extra,
    }


def test_what_checkpoints_hold_is_read_back(tmp_path: Path, one_rank):
    import torch

    before = state()
    torch.save(before, tmp_path / "all.pt")
    assert safe_loading.find_calls(tmp_path, ["all.pt"]) == []
    with safe_loading.restricted():
        after = torch.load(tmp_path / "all.pt", weights_only=False)
    assert torch.equal(after["weights"]["b"].to_local(), torch.ones(4, 2))
    assert after["weights"]["a"].placements == before["weights"]["a"].placements
    np.random.set_state(after["extra"]["rng"]["numpy"])
    random.setstate(after["extra"]["rng"]["random"])
    assert after["extra"]["lr_scheduler"] == before["extra"]["lr_scheduler"]


@pytest.mark.parametrize(
    "attack",
    [
        Attack(os.system, "touch ran"),
        Attack(exec, "open('ran', 'w')"),
        Attack(getattr, dict, "fromkeys"),
        Attack(np.fromfile, "/etc/passwd"),
        {"weights": [1, {"deep": Attack(os.mkdir, "ran")}]},
    ],
    ids=["os.system", "exec", "getattr", "numpy", "deep"],
)
def test_a_pickle_that_calls_is_named_and_not_run(tmp_path: Path, monkeypatch, attack):
    import torch

    monkeypatch.chdir(tmp_path)
    torch.save(attack, tmp_path / "optim.pt")
    lines = safe_loading.find_calls(tmp_path, ["optim.pt"])
    assert len(lines) == 1
    with pytest.raises(CheckpointError, match=r"optim\.pt calls .+ to be loaded\nNo checkpoint of a run needs that"):
        safe_loading.refuse(lines)
    with safe_loading.restricted(), pytest.raises(Exception, match="Weights only load failed"):
        torch.load(tmp_path / "optim.pt", weights_only=False)  # as verl does it
    assert not (tmp_path / "ran").exists()
    assert safe_loading.SWITCH not in os.environ


def test_other_forms_of_files(tmp_path: Path, monkeypatch):
    """Torch's early one, in which nothing is named beforehand; and a zip file whose pickle is of another protocol."""
    import torch

    monkeypatch.chdir(tmp_path)
    torch.save(Attack(os.mkdir, "ran"), tmp_path / "early.pt", _use_new_zipfile_serialization=False)
    torch.save(Attack(os.mkdir, "ran"), tmp_path / "late.pt", pickle_protocol=5)
    (line,) = safe_loading.find_calls(tmp_path, ["early.pt", "late.pt"])
    assert "late.pt c" in line  # calls, or cannot be read
    for name in ("early.pt", "late.pt"):
        with safe_loading.restricted(), pytest.raises(Exception, match="Weights only load failed"):
            torch.load(tmp_path / name, weights_only=False)
    assert not (tmp_path / "ran").exists()


def test_a_user_may_want_it_as_upstream_has_it(tmp_path: Path, monkeypatch):
    import torch

    monkeypatch.setenv(safe_loading.OPPOSITE, "1")
    monkeypatch.chdir(tmp_path)
    torch.save(Attack(os.mkdir, "ran"), tmp_path / "optim.pt")
    assert safe_loading.find_calls(tmp_path, ["optim.pt"]) == []
    with safe_loading.restricted():
        torch.load(tmp_path / "optim.pt", weights_only=False)
    assert (tmp_path / "ran").exists()
