"""A checkpoint is one's own when nobody else can write anything in it; what a run writes is."""

import grp
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from verl_longrl.trainer import write_access


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch) -> Path:
    """One of a user whose group has other members."""
    monkeypatch.setattr(grp, "getgrgid", lambda gid: SimpleNamespace(gr_name="team", gr_mem=["ada", "grace"]))
    before = os.umask(0o002)
    write_access.allow_only_owner_to_write()
    (tmp_path / "global_step_3" / "actor").mkdir(parents=True)
    for name in ("model.pt", "tokenizer.json"):
        (tmp_path / "global_step_3" / "actor" / name).write_text("")
    os.umask(before)
    return tmp_path / "global_step_3"


def test_what_a_run_writes_is_its_owners(checkpoint: Path):
    assert write_access.checkpoint_problem(checkpoint) is None


def test_every_file_counts(checkpoint: Path):
    for path in (checkpoint / "actor").iterdir():
        path.chmod(0o664)
    problem = write_access.checkpoint_problem(checkpoint)
    assert problem is not None
    assert problem.startswith("the group team can write ")
    assert "(and 1 more), and it would be loaded" in problem
    assert f"chmod -R go-w {checkpoint}" in problem


def test_a_link_counts_as_what_it_leads_to(checkpoint: Path, tmp_path: Path):
    shard = checkpoint / "actor" / "model.pt"
    shard.rename(tmp_path / "elsewhere.pt")
    (tmp_path / "elsewhere.pt").chmod(0o646)
    shard.symlink_to(tmp_path / "elsewhere.pt")
    assert "everybody can write" in str(write_access.checkpoint_problem(checkpoint))
