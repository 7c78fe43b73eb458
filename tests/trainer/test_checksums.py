"""A changed byte is found wherever it matters, in what torch wrote and in other files."""

import errno
import os
from pathlib import Path

import pytest
from verl_longrl.trainer import checksums

pytestmark = pytest.mark.engine


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    import torch

    path = tmp_path / "model_world_size_1_rank_0.pt"
    torch.save({"a": torch.arange(5.0), "b": {"c": torch.ones(3, dtype=torch.int64), "name": "x"}}, path)
    return path


def loaded(path: Path) -> list:
    import torch

    state = torch.load(path, weights_only=True)
    return [state["a"].tolist(), state["b"]["c"].tolist(), state["b"]["name"]]


def test_no_flipped_bit_of_a_shard_is_loaded(shard: Path):
    """A bit of every fifth byte: found, or read as if nothing were."""
    written = checksums.write_through(shard.parent, [shard.name])
    expected, before, raw = {shard.name: written[shard.name].crc32}, loaded(shard), shard.read_bytes()
    assert checksums.damaged(shard.parent, expected) == []
    found = 0
    for byte in range(0, len(raw), 5):
        changed = bytearray(raw)
        changed[byte] ^= 1 << byte % 8
        shard.write_bytes(changed)
        lines = checksums.damaged(shard.parent, expected)
        checksums.damaged(shard.parent, {shard.name: None})  # raises nothing
        found += bool(lines)
        assert lines or loaded(shard) == before, f"byte {byte}"
    assert found > len(raw) / 5 / 3  # the others are padding


def test_the_record_is_named(shard: Path):
    raw = bytearray(shard.read_bytes())
    expected = {shard.name: checksums.write_through(shard.parent, [shard.name])[shard.name].crc32}
    at = raw.index(bytes.fromhex("0000803f00000040"))  # 1.0, 2.0
    raw[at + 3] ^= 0x40
    shard.write_bytes(raw)
    for known in (expected, {shard.name: None}):
        (line,) = checksums.damaged(shard.parent, known)
        assert line.startswith(f"{shard.name} is damaged: record model_world_size_1_rank_0/data/0: Bad CRC-32")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "__0_1.distcp", "no_zip.pt", "empty"])
def test_other_files(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"" if name == "empty" else bytes(range(256)) * 3000)
    written = checksums.write_through(tmp_path, [name])[name]
    assert written.size == (tmp_path / name).stat().st_size
    assert checksums.damaged(tmp_path, {name: written.crc32}) == []
    changed = bytearray((tmp_path / name).read_bytes() or b"0")
    changed[-1] ^= 1
    (tmp_path / name).write_bytes(changed)
    (line,) = checksums.damaged(tmp_path, {name: written.crc32})
    assert f"expected {written.crc32}" in line


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x05\x06" + b"\0" * 18, b"\0" * 4096])
def test_what_is_no_longer_a_shard(shard: Path, content: bytes):
    expected = checksums.write_through(shard.parent, [shard.name])[shard.name].crc32
    shard.write_bytes(content)
    assert len(checksums.damaged(shard.parent, {shard.name: expected})) == 1


def test_a_disk_that_cannot_read_and_one_that_does_not_answer(shard: Path, monkeypatch):
    """The first is damage; after the second, all checkpoints of a run would be."""
    for number in (errno.EIO, errno.ESTALE):

        def fail(path, number=number):
            raise OSError(number, os.strerror(number), str(path))

        monkeypatch.setattr(checksums, "_table_sum", fail)
        if number == errno.EIO:
            (line,) = checksums.damaged(shard.parent, {shard.name: "zip:00000000"})
            assert line == f"{shard.name} is damaged: it cannot be read (Input/output error)"
        else:
            with pytest.raises(OSError, match="Stale file handle"):
                checksums.damaged(shard.parent, {shard.name: "zip:00000000"})


def test_torch_writes_checksums_unless_told_otherwise():
    import torch

    assert torch.serialization.get_crc32_options()
