"""run_longrl.sh hands its environment on so that Hydra reads the very values."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from recipe.longrl import settings

pytestmark = pytest.mark.engine
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def overrides(tmp_path: Path):
    """overrides(environment) -> the command line that run_longrl.sh gives to recipe.longrl.main."""
    shutil.copytree(ROOT / "scripts" / "runs", tmp_path / "scripts" / "runs")
    shutil.copy(ROOT / "run_longrl.sh", tmp_path)
    (tmp_path / "scripts" / "setup.sh").write_text("exit 0\n")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/usr/bin/env bash\nprintf '%s\\0' \"$@\"\n")
    python.chmod(0o755)

    def run(*arguments: str, begins_with: tuple[str, ...] = (), **environment: str) -> list[str]:
        unset = ("TRAIN_FILES", "VAL_FILES", "MODEL_PATH", "CKPT_SAVE_PATH", "EXPERIMENT_NAME", "LONGRL_VENV")
        unset += ("RAY_ADDRESS", "LONGRL_PREFLIGHT")
        clean = {key: value for key, value in os.environ.items() if key not in unset}
        done = subprocess.run(
            ["bash", str(tmp_path / "run_longrl.sh"), *arguments],
            env=clean | environment,
            capture_output=True,
            text=True,
            check=True,
        )
        *before, call = [call.split("\0")[:-1] for call in done.stdout.split("-m\0")[1:]]
        module, *given = call
        assert before == [[name, *given] for name in begins_with]
        assert module == ("recipe.longrl.main" if environment else "recipe.longrl.demo.run")
        return given

    return run


@pytest.mark.parametrize(
    "value",
    ["/ckpt/step=100/hf", "/ckpt/run(1)", "/ckpt/it's", "/a b,c/{d}", "/data/[x].parquet", "hdfs://a/b", "plain/name"],
)
def test_any_path_arrives_as_it_is(overrides, value: str):
    given = overrides(
        "trainer.save_freq=7",
        TRAIN_FILES=value,
        VAL_FILES=value,
        MODEL_PATH=value,
        CKPT_SAVE_PATH=value,
        EXPERIMENT_NAME="run=1",
    )
    config = settings.compose(given)
    assert config.data.train_files == config.data.val_files == value
    assert config.actor_rollout_ref.model.path == config.trainer.default_local_dir == value
    assert config.trainer.experiment_name == "run=1"
    assert config.trainer.save_freq == 7


def test_lists_of_files(overrides):
    given = overrides(TRAIN_FILES="['a.parquet','b=1.parquet']", VAL_FILES="[c.parquet]", MODEL_PATH="m")
    config = settings.compose(given)
    assert list(config.data.train_files) == ["a.parquet", "b=1.parquet"]
    assert list(config.data.val_files) == ["c.parquet"]
    assert config.trainer.experiment_name == "longrlvr"
    assert config.trainer.default_local_dir.endswith("checkpoints")


def test_nothing_set_is_the_demo(overrides):
    assert overrides("--dry-run") == ["--dry-run"]


FILES = {"TRAIN_FILES": "t", "VAL_FILES": "v", "MODEL_PATH": "m"}


@pytest.mark.parametrize(
    ("environment", "arguments", "looked"),
    [
        ({"RAY_ADDRESS": "10.0.0.1:6379"}, (), True),
        ({"RAY_ADDRESS": "10.0.0.1:6379", "LONGRL_PREFLIGHT": "0"}, (), False),
        ({"RAY_ADDRESS": "10.0.0.1:6379"}, ("--dry-run",), False),
        ({"RAY_ADDRESS": "local"}, (), False),
        ({}, (), False),
    ],
)
def test_a_running_cluster_is_looked_at_first(overrides, environment, arguments, looked: bool):
    overrides(*arguments, begins_with=("recipe.longrl.preflight",) if looked else (), **FILES, **environment)
