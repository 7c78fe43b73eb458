"""The lines about the run's folder and checkpoint, also in a dry run. What the first compares:
tests/recipe/test_run_identity.py; what the second: tests/trainer/test_checkpoints.py."""

import os
from pathlib import Path

import pytest
from verl_longrl.folder_lock import Owner, hold_folders
from verl_longrl.trainer.checkpoints import INCOMPLETE, MANIFEST, begin_checkpoint, seal_checkpoint

from recipe.longrl import run_identity
from recipe.longrl.preflight import folder

pytestmark = pytest.mark.engine


def checkpoint(run: Path, step: int) -> Path:
    folder = run / "checkpoints" / f"global_step_{step}"
    begin_checkpoint(folder)
    (folder / "data.pt").write_bytes(b"x")
    seal_checkpoint(folder, world_size=2)
    return folder


def test_a_folder_continues_only_its_own_run(check, configure, tmp_path):
    found = check()
    assert found["run folder"] == ("ok", f"{tmp_path / 'run'} is new")
    assert "resume" not in found
    run_identity.store_config(configure())
    step = checkpoint(tmp_path / "run", 20)
    found = check()
    assert found["resume"] == ("ok", f"from {step}")
    status, detail = found["run folder"]
    assert status == "ok"
    assert "has checkpoints up to global_step_20" in detail
    status, detail = check("longrl.reward.eta=0.5", dry_run=True)["run folder"]
    assert status == "FAIL"
    assert "longrl.reward.eta: 0.1 -> 0.5" in detail


def test_a_checkpoint_that_cannot_be_resumed_from_is_told_before_anything_starts(check, configure, tmp_path):
    run_identity.store_config(configure())
    older, newer = (checkpoint(tmp_path / "run", step) for step in (20, 30))
    (newer / "data.pt").unlink()
    status, detail = check()["resume"]
    assert (status, detail.splitlines()) == ("warn", [f"from {older}", f"{newer} is not used: data.pt is missing"])
    status, detail = check("trainer.n_gpus_per_node=1")["resume"]
    assert status == "FAIL"
    assert "written by 2 trainer ranks and this run has 1" in detail


def test_another_runs_checkpoint(check, configure, tmp_path):
    run_identity.store_config(configure(f"longrl.output_dir={tmp_path / 'other'}"))
    given = checkpoint(tmp_path / "other", 20)
    resume = ["trainer.resume_mode=resume_path", f"trainer.resume_from_path={given}"]
    assert check(*resume)["resume"] == ("ok", f"from {given}")
    status, detail = check(*resume, "longrl.reward.eta=0.5")["resume"]
    assert status == "warn"  # what one may want
    assert "longrl.reward.eta: 0.1 -> 0.5" in detail
    (tmp_path / "other" / "config.yaml").unlink()
    assert "its configuration is not compared" in check(*resume)["resume"][1]
    (given / MANIFEST).rename(given / INCOMPLETE)
    status, detail = check(*resume)["resume"]
    assert status == "FAIL"
    assert (
        "its writing was interrupted, or it is a copy without that file. Complete checkpoints next to it: none"
        in detail
    )


def test_another_programs_checkpoints_and_exports(check, tmp_path):
    (tmp_path / "run" / "checkpoints" / "global_step_100" / "actor").mkdir(parents=True)
    (tmp_path / "run" / "export").mkdir()
    (tmp_path / "run" / "export" / "thesis.tex").write_text("years")
    found = check()
    assert found["resume"][0] == "FAIL"
    assert "contains global_step_100 without complete.json" in found["resume"][1]
    assert found["export"][0] == "FAIL"
    assert "contains files that no export wrote" in found["export"][1]
    assert "export" not in check("longrl.export=false")


@pytest.mark.parametrize("key", ["longrl.output_dir", "trainer.default_local_dir"])
def test_a_place_that_is_no_folder(check, tmp_path, key: str):
    (tmp_path / "file").write_text("")
    status, detail = check(f"{key}={tmp_path / 'file' / 'run'}")["run folder"]
    assert status == "FAIL"
    assert f"{key} = {tmp_path / 'file' / 'run'}: {tmp_path / 'file'} is not a folder" in detail


def test_a_folder_that_cannot_be_written_to(check, monkeypatch):
    monkeypatch.setattr(folder.os, "access", lambda *_: False)  # root may write everywhere
    status, detail = check()["run folder"]
    assert status == "FAIL"
    assert "is not writable. Fix: choose another" in detail
    assert check(dry_run=True)["run folder"][0] == "warn"  # another machine's disk


@pytest.mark.parametrize(
    ("lives", "dry_run", "status"), [(True, False, "FAIL"), (True, True, "warn"), (None, False, "warn")]
)
def test_a_folder_in_use(check, tmp_path, monkeypatch, lives: bool | None, dry_run: bool, status: str):
    """One whose owner may be dead is left to the start, which waits for its heartbeat."""
    with hold_folders([tmp_path / "run"]):
        assert "in use" not in check(), "by this process"
        monkeypatch.setattr(Owner, "is_this_process", lambda _: False)
        monkeypatch.setattr(Owner, "lives", lambda _: lives)
        found, detail = check(dry_run=dry_run)["in use"]
    assert found == status
    assert f"in use by process {os.getpid()} on " in detail
