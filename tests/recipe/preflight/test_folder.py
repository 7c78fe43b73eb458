"""The line about the run's folder, also in a dry run. What it compares: tests/recipe/test_identity.py."""

import pytest
from verl_longrl.trainer.checkpoints import seal

from recipe.longrl import identity

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
