"""The launch script of each published run gives a command line that composes into that run."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from recipe.longrl import settings
from recipe.longrl.curriculum import plan

pytestmark = pytest.mark.engine
RUNS = Path(__file__).resolve().parents[2] / "scripts" / "runs"
PUBLISHED = {  # module, learning rate, prompts of a batch, rollouts, longest prompt, GPUs
    "golongrl-30b-a3b": ("main", 2e-6, 128, 16, 163840, 128),
    "golongrl-4b-grpo": ("main", 2e-6, 128, 16, 163840, 128),
    "golongrl-4b-tmn": ("main", 2e-6, 128, 16, 163840, 128),
    "longrlvr-llama-3.1-8b": ("main", 1e-6, 32, 8, 65536, 8),
    "longrlvr-qwen2.5-14b-1m": ("main", 1e-6, 32, 8, 65536, 16),
    "longrlvr-qwen2.5-7b-1m": ("main", 1e-6, 32, 8, 65536, 8),
    "loongrl-14b": ("curriculum", 1e-6, 256, 8, 16384, 16),
    "loongrl-7b": ("curriculum", 1e-6, 512, 8, 16384, 16),
}
FILES = ("TRAIN_FILES", "VAL_FILES", "WARMUP_FILES", "STAGE1_FILES", "STAGE2_FILES")


@pytest.fixture
def launched(tmp_path):
    """launched(name, arguments, files) -> the finished script, whose Python prints what it was given."""
    scripts = shutil.copytree(RUNS, tmp_path / "scripts" / "runs").parent
    (scripts / "setup.sh").write_text("exit 0\n")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/usr/bin/env bash\nprintf '%s\\0' \"$@\"\n")
    python.chmod(0o755)

    def run(name, *arguments, files):
        unset = (*FILES, "LONGRL_VENV", "MODEL_PATH")
        environment = {key: value for key, value in os.environ.items() if key not in unset} | files
        command = ["bash", str(scripts / "runs" / f"{name}.sh"), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    return run


def test_there_is_a_script_for_each():
    assert {path.stem for path in RUNS.glob("*.sh")} == {*PUBLISHED, "common"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_is_the_published_run(launched, name):
    module, rate, prompts, rollouts, longest, gpus = PUBLISHED[name]
    files = {variable: f"/data/a b={variable}.parquet" for variable in FILES} | {"VAL_FILES": "[/x.parquet,/y.parquet]"}
    done = launched(name, "trainer.save_freq=7", files=files)
    assert done.returncode == 0, done.stderr
    _, given, *overrides = done.stdout.split("\0")[:-1]
    assert given == f"recipe.longrl.{module}"
    if module == "main":
        configs = [settings.compose(overrides)]
        assert configs[0].data.train_files == "/data/a b=TRAIN_FILES.parquet"
    else:
        configs = [stage.config for stage in plan.read(overrides).stages]
        assert configs[-1].data.train_files == "/data/a b=STAGE2_FILES.parquet"
    for config in configs:
        settings.resolve(config, dry_run=True)
        actor, rollout, trainer = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout, config.trainer
        assert (actor.optim.lr, config.data.train_batch_size, rollout.n) == (rate, prompts, rollouts)
        assert (config.data.max_prompt_length, trainer.nnodes * trainer.n_gpus_per_node) == (longest, gpus)
        assert config.longrl.advantage.estimator == ("tmn" if name == "golongrl-4b-tmn" else "upstream")
        assert (trainer.save_freq, len(config.data.val_files)) == (7, 2)


@pytest.mark.parametrize("name", PUBLISHED)
def test_help_says_what_is_published_and_what_inferred(launched, name):
    done = launched(name, "--help", files={})
    assert done.returncode == 0
    assert "Published" in done.stdout
    assert f"bash scripts/runs/{name}.sh [--dry-run] [overrides...]" in done.stdout
    assert "source" not in done.stdout


def test_missing_files_are_named(launched):
    done = launched("loongrl-7b", files={"VAL_FILES": "v.parquet", "STAGE1_FILES": "s.parquet"})
    assert done.returncode == 2
    assert done.stderr == "loongrl-7b.sh: set WARMUP_FILES STAGE2_FILES (see --help)\n"
