"""The launch script of each published run gives a command line that composes into that run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.demo_rows import write_demo_rows

from recipe.longrl import main, settings
from recipe.longrl.curriculum import __main__ as curriculum
from recipe.longrl.curriculum import plan
from recipe.longrl.demo.grounded.build import GroundedBuild
from recipe.longrl.memory import shapes
from recipe.longrl.preflight import model_loading

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
MODELS = {
    "golongrl-30b-a3b": "Qwen/Qwen3-30B-A3B-Thinking-2507",
    "golongrl-4b-grpo": "Qwen/Qwen3-4B-Thinking-2507",
    "golongrl-4b-tmn": "Qwen/Qwen3-4B-Thinking-2507",
    "longrlvr-llama-3.1-8b": "meta-llama/Llama-3.1-8B-Instruct",
    "longrlvr-qwen2.5-14b-1m": "Qwen/Qwen2.5-14B-Instruct-1M",
    "longrlvr-qwen2.5-7b-1m": "Qwen/Qwen2.5-7B-Instruct-1M",
    "loongrl-14b": "Qwen/Qwen2.5-14B-Instruct",
    "loongrl-7b": "Qwen/Qwen2.5-7B-Instruct",
}
FILES = ("TRAIN_FILES", "VAL_FILES", "WARMUP_FILES", "STAGE1_FILES", "STAGE2_FILES")


def _without_setup(folder: Path) -> Path:
    """A copy of the scripts whose setup does nothing."""
    scripts = folder / "scripts"
    for name in ("runs", "ray"):
        shutil.copytree(RUNS.parent / name, scripts / name)
    (scripts / "setup.sh").write_text("exit 0\n")
    return scripts


@pytest.fixture
def launched(tmp_path):
    """launched(name, arguments, files) -> the finished script, whose fake Python prints its arguments."""
    scripts = _without_setup(tmp_path)
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


def test_each_published_run_has_a_script():
    assert {path.stem for path in RUNS.glob("*.sh")} == {*PUBLISHED, "common"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_script_composes_the_published_run(launched, name):
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
        configs = [stage.config for stage in plan.read_plan(overrides).stages]
        assert configs[-1].data.train_files == "/data/a b=STAGE2_FILES.parquet"
    for config in configs:
        settings.resolve(config, dry_run=True)
        actor, rollout, trainer = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout, config.trainer
        assert (actor.optim.lr, config.data.train_batch_size, rollout.n) == (rate, prompts, rollouts)
        assert (config.data.max_prompt_length, trainer.nnodes * trainer.n_gpus_per_node) == (longest, gpus)
        assert config.longrl.advantage.estimator == ("tmn" if name == "golongrl-4b-tmn" else "upstream")
        assert (trainer.save_freq, len(config.data.val_files)) == (7, 2)


@pytest.mark.parametrize("name", PUBLISHED)
def test_help_distinguishes_published_and_inferred_settings(launched, name):
    done = launched(name, "--help", files={})
    assert done.returncode == 0
    assert "Published" in done.stdout
    assert f"bash scripts/runs/{name}.sh [--dry-run] [overrides...]" in done.stdout
    assert "source" not in done.stdout


def test_missing_files_are_named(launched):
    done = launched("loongrl-7b", files={"VAL_FILES": "v.parquet", "STAGE1_FILES": "s.parquet"})
    assert done.returncode == 2
    assert done.stderr == "loongrl-7b.sh: set WARMUP_FILES STAGE2_FILES (see --help)\n"


@pytest.fixture(scope="session")
def rows(tmp_path_factory) -> str:
    """A file with as many rows as the largest published batch has."""
    file = tmp_path_factory.mktemp("rows") / "rows.parquet"
    write_demo_rows(file, 512)
    return str(file)


@pytest.fixture
def published(tmp_path):
    """published(name on the hub) -> a folder like the model's, with config.json and tokenizer but no weights."""

    def make(name: str) -> Path:
        folder = tmp_path / "published" / name
        GroundedBuild().tokenizer().save_pretrained(folder)
        config = json.loads(shapes.TABLE.read_text())[name]
        (folder / "config.json").write_text(json.dumps(config))
        if "dual_chunk_attention_config" in config:
            (folder / "sparse_attention_config.json").write_text("{}")
        return folder

    return make


def _prepared(run: Path, model: Path) -> None:
    """The run reads a copy of the folder without dual chunk attention if the model has it, otherwise the folder."""
    config = json.loads((model / "config.json").read_text())
    assert (run / "model").exists() == ("dual_chunk_attention_config" in config)
    if config.pop("dual_chunk_attention_config", None):
        assert json.loads((run / "model" / "config.json").read_text()) == config
        assert not (run / "model" / "sparse_attention_config.json").exists()
        assert (run / "model" / "tokenizer.json").exists()


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_dry_run_on_the_published_model(launched, published, rows, name, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(model_loading, "vllm_arguments", lambda config: None)  # The next test checks vLLM.
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("RAY_ADDRESS", "local")
    model, run = published(MODELS[name]), tmp_path / "run"
    overrides = [f"actor_rollout_ref.model.path={model}", f"longrl.output_dir={run}", "--dry-run"]
    done = launched(name, *overrides, files=dict.fromkeys(FILES, rows))
    _, module, *arguments = done.stdout.split("\0")[:-1]
    (main.main if module == "recipe.longrl.main" else curriculum.main)(arguments)
    shown = capsys.readouterr().out
    assert "FAIL" not in shown
    assert "trainer model" in shown
    assert f"positions of {run / 'model' if (run / 'model').exists() else model}" in shown
    if module == "recipe.longrl.main":
        _prepared(run, model)


def test_the_script_checks_the_installed_vllm(published, rows, tmp_path):
    name = "longrlvr-qwen2.5-7b-1m"
    model, run = published(MODELS[name]), tmp_path / "run"
    script = _without_setup(tmp_path) / "runs" / f"{name}.sh"
    overrides = [f"actor_rollout_ref.model.path={model}", f"longrl.output_dir={run}", "--dry-run"]
    environment = {**os.environ, **dict.fromkeys(FILES, rows), "LONGRL_VENV": sys.prefix, "COLUMNS": "400"}
    done = subprocess.run(["bash", str(script), *overrides], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "rollout engine" in line]
    assert " ok " in line
    assert "builds the model of this config" in line
    _prepared(run, model)


def test_prompts_longer_than_the_chunk_are_rejected(published, rows, tmp_path, capsys):
    model = published("Qwen/Qwen2.5-7B-Instruct-1M")
    files = [f"data.train_files=[{rows}]", f"data.val_files=[{rows}]", f"longrl.output_dir={tmp_path / 'run'}"]
    with pytest.raises(SystemExit) as refused:
        main.main([*files, f"actor_rollout_ref.model.path={model}", "data.max_prompt_length=300000", "--dry-run"])
    assert refused.value.code == 2
    assert "sets dual chunk attention" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
