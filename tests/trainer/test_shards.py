"""Each rank has its own files, and all ranks as much to do."""

from pathlib import Path

import pytest
from verl_longrl.trainer import checkpoints, checksums, shards

pytestmark = pytest.mark.engine
GIB = 2**30


@pytest.fixture
def workers(monkeypatch) -> list[str]:
    """Two ranks in this process; what they are asked is noted."""
    monkeypatch.setattr(shards, "in_ranks", lambda ranks, function, each: [function(*given) for given in each])
    return ["first", "second"]


def test_own_files_first_then_all_as_much():
    files = {f"actor/model_world_size_2_rank_{rank}.pt": GIB for rank in (0, 1)}
    files |= {"actor/huggingface/model.safetensors": 5 * GIB, "actor/huggingface/config.json": 1, "data.pt": 2}
    first, second = shards.assign_files(files, 2)
    assert "actor/model_world_size_2_rank_0.pt" in first
    assert "actor/model_world_size_2_rank_1.pt" in second
    assert {*first, *second} == set(files)
    assert len(first) + len(second) == 5
    assert ("data.pt" in first) != ("actor/huggingface/model.safetensors" in first)


def test_files_of_megatron_and_of_more_ranks():
    files = {"actor/optimizer/dist_ckpt/__1_0.distcp": 9, "actor/optimizer/dist_ckpt/__1_1.distcp": 8}
    files |= {"actor/model_world_size_9_rank_7.pt": 1}
    first, second = shards.assign_files(files, 2)
    assert first == ["actor/model_world_size_9_rank_7.pt"]
    assert len(second) == 2


def test_written_through_and_found_damaged(tmp_path: Path, workers):
    import torch

    folder = tmp_path / "global_step_3"
    checkpoints.begin_checkpoint(folder)
    (folder / "actor" / "huggingface").mkdir(parents=True)
    for rank in (0, 1):
        torch.save({"w": torch.ones(9)}, folder / "actor" / f"model_world_size_2_rank_{rank}.pt")
    (folder / "actor" / "huggingface" / "config.json").write_text("{}")
    torch.save({"at": 3}, folder / "data.pt")
    written = shards.write_through(folder, workers)
    assert "data.pt" not in written  # the trainer's own, which it may write once more
    checkpoints.seal_checkpoint(folder, 2, written)
    expected = checkpoints.manifest_of(folder).checkable()
    assert expected == {name: file.crc32 for name, file in checksums.write_through(folder, expected).items()}
    assert len(expected) == 4
    assert shards.damaged(folder, workers, lambda name: name.endswith(".pt")) == []

    raw = bytearray((folder / "data.pt").read_bytes())
    raw[raw.index(b"at")] ^= 1  # of the same size
    (folder / "data.pt").write_bytes(raw)
    assert checkpoints.find_damage(folder) is None
    (line,) = shards.damaged(folder, workers, lambda name: False)
    assert "data.pt is damaged" in line


def test_code_in_a_shard_is_refused_not_passed_over(tmp_path: Path, workers):
    import os

    import torch

    class Attack:
        def __reduce__(self):
            return os.system, ("true",)

    folder = tmp_path / "global_step_3"
    checkpoints.begin_checkpoint(folder)
    (folder / "actor").mkdir()
    torch.save(Attack(), folder / "actor" / "optim_world_size_2_rank_1.pt")
    checkpoints.seal_checkpoint(folder, 2)
    with pytest.raises(checkpoints.CheckpointError, match=r"optim_world_size_2_rank_1\.pt calls posix\.system"):
        shards.damaged(folder, workers, lambda name: name.endswith(".pt"))
