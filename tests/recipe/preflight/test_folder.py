"""The line about the run's folder, also in a dry run. What it compares: tests/recipe/test_identity.py."""

import pytest
from verl_longrl.trainer.checkpoints import seal

from recipe.longrl import identity
from recipe.longrl.preflight import folder

pytestmark = pytest.mark.engine


def test_a_folder_continues_only_its_own_run(check, configure, tmp_path):
    assert check()["run folder"] == ("ok", f"{tmp_path / 'run'} is new")
    identity.store(configure())
    step = tmp_path / "run" / "checkpoints" / "global_step_20"
    step.mkdir(parents=True)
    seal(step, world_size=2)
    status, detail = check()["run folder"]
    assert status == "ok"
    assert "holds checkpoints up to global_step_20" in detail
    status, detail = check("longrl.reward.eta=0.5", dry_run=True)["run folder"]
    assert status == "FAIL"
    assert "longrl.reward.eta: 0.1 -> 0.5" in detail


@pytest.mark.parametrize("key", ["longrl.output_dir", "trainer.default_local_dir"])
def test_a_place_that_is_no_folder(check, tmp_path, key: str):
    (tmp_path / "file").write_text("")
    status, detail = check(f"{key}={tmp_path / 'file' / 'run'}")["run folder"]
    assert status == "FAIL"
    assert f"{key} = {tmp_path / 'file' / 'run'}: {tmp_path / 'file'} is no folder" in detail


def test_a_folder_that_cannot_be_written_to(check, monkeypatch):
    monkeypatch.setattr(folder.os, "access", lambda *_: False)  # root may write everywhere
    status, detail = check()["run folder"]
    assert status == "FAIL"
    assert "cannot be written to; name another" in detail
    assert check(dry_run=True)["run folder"][0] == "warn"  # another machine's disk
