"""The export appears whole or says why not."""

import subprocess
from pathlib import Path

import pytest
from verl_longrl.trainer.checkpoints import CheckpointError, seal

from recipe.longrl import export


@pytest.mark.parametrize(
    ("returncode", "stdout", "stderr", "said"),
    [
        (1, "", "Traceback\nValueError: no shard 3\n", "exit status 1: ValueError: no shard 3"),
        (2, "out of disk\n", "", "exit status 2: out of disk"),
        (-9, "", "", "exit status -9: it said nothing"),
    ],
)
def test_a_merger_that_dies_is_quoted(tmp_path: Path, monkeypatch, returncode, stdout, stderr, said):
    step = tmp_path / "checkpoints" / "global_step_3"
    step.mkdir(parents=True)
    seal(step, world_size=2)
    died = subprocess.CompletedProcess([], returncode, stdout, stderr)
    monkeypatch.setattr(export.subprocess, "run", lambda *_, **__: died)
    with pytest.raises(CheckpointError, match=said):
        export.export_final(tmp_path / "checkpoints", tmp_path / "export")
    assert not (tmp_path / "export").exists()


def test_nothing_to_export(tmp_path: Path):
    with pytest.raises(CheckpointError, match="no whole checkpoint under"):
        export.export_final(tmp_path, tmp_path / "export")
