"""A start deletes the incomplete files of killed starts, and nothing else."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from verl_longrl.trainer import checkpoints

from recipe.longrl import stale_files

pytestmark = pytest.mark.engine


def test_what_killed_starts_left(tmp_path: Path):
    config = OmegaConf.create(
        {
            "longrl": {"output_dir": str(tmp_path)},
            "trainer": {"default_local_dir": str(tmp_path / "checkpoints")},
        }
    )
    checkpoints.begin_checkpoint(tmp_path / "checkpoints" / "global_step_3")
    partial = ("rollouts/train/3.partial", "rollouts/val/3.partial")
    for name in (*partial, ".metrics.jsonl.12", ".config.yaml.12", ".export.partial/.exporter.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("{}")
    mine = ("rollouts/train/3.jsonl", "metrics.jsonl", ".metrics.jsonl.backup", ".export.before/thesis.tex")
    for name in mine:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    half_written, unknown = stale_files.remove_stale_files(config)
    assert "global_step_3, half-written" in half_written
    assert ".export.before, which no export wrote" in unknown
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == sorted(mine)
