"""A model card has the facts in the run's folder, and calls all others unknown."""

import json
import subprocess
from pathlib import Path

import pytest
from huggingface_hub import metadata_load
from verl_longrl.trainer.checkpoints import seal_checkpoint

from recipe.longrl import model_card, provenance, run_identity, settings

pytestmark = pytest.mark.engine


@pytest.fixture
def run(composed, tmp_path: Path):
    """run(overrides) -> the folder of a started run with metrics up to step 30 and data with a card."""
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "val"):
        (data / f"{split}.parquet").write_bytes(b"rows")
    (data / "funnel.json").write_text("[]")
    (data / "README.md").write_text(
        "# Wells\n\nMade with [config.yaml](config.yaml).\n\n| a | b |\n\n![plot](plots.png)\n"
    )

    def make(*overrides: str, recorded: bool = True) -> Path:
        files = [f"data.{split}_files=[{data / f'{split}.parquet'}]" for split in ("train", "val")]
        output = tmp_path / "run"
        config = composed(*files, f"longrl.output_dir={output}", "trainer.experiment_name=wells", *overrides)
        settings.resolve(config)
        run_identity.store_config(config)
        if recorded:
            provenance.record_start(output, "python -m recipe.longrl.main a=1")
            provenance.record_start(output, "python -m recipe.longrl.main a=2")
        rows = [{"split": "val", "step": 0, "val/score": 0.25, "val/answer": 0.125}]
        rows += [{"split": "train", "step": step, "reward_before_filter/score": 0.5} for step in range(1, 31)]
        rows[11:11] = [{"split": "val", "step": 10, "val/score": 0.5, "val/answer": 0.375}]
        rows += [{"split": "val", "step": 30, "val/score": 0.75, "val/answer": 0.625}]
        (output / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return output

    return make


def card(folder: Path, step: int = 30) -> str:
    return model_card.compose_card(folder, folder / f"global_step_{step}")


def fact(text: str, name: str) -> str:
    return next(line.split("|")[2].strip() for line in text.splitlines() if line.startswith(f"| {name} |"))


def test_a_run_that_says_everything(run, tmp_path: Path):
    text = card(run("actor_rollout_ref.model.path=org/base", "longrl.advantage.estimator=tmn") / "checkpoints")
    (tmp_path / "README.md").write_text(text)
    assert metadata_load(tmp_path / "README.md")["base_model"] == "org/base"
    assert "license" not in metadata_load(tmp_path / "README.md")
    assert "# wells, step 30" in text
    assert fact(text, "base model") == "org/base"
    assert fact(text, "method") == "reward longrlvr, advantages grpo, task-aware estimator tmn"
    assert fact(text, "step") == "30, with 32 prompts of 8 rollouts each"
    assert fact(text, "lengths") == "prompts of up to 65536 tokens, responses of up to 4096"
    assert fact(text, "training data") == f"{tmp_path / 'data' / 'train.parquet'} (4 bytes)"
    assert fact(text, "license") == "unknown"
    assert "verl 0.9.1" in fact(text, "versions")
    assert "| | step 0 | step 30 |" in text
    assert "| answer accuracy | 0.125 | 0.625 |" in text
    assert "```bash\npython -m recipe.longrl.main a=2\n```" in text
    assert "### Wells" in text
    assert "Made with config.yaml." in text
    assert "plots.png" not in text


def test_an_earlier_step_is_compared_as_far_as_it_came(run):
    checkpoints = run() / "checkpoints"
    assert "| reward | 0.250 | 0.500 |" in card(checkpoints, 20)
    assert "| | step 0 | step 10 |" in card(checkpoints, 20)
    once = card(checkpoints, 5)
    assert "which were measured once.\n\n| | step 0 |" in once
    assert "| reward | 0.250 |\n" in once


def test_starts_after_the_checkpoint_are_not_its(run):
    output = run()
    step = output / "checkpoints" / "global_step_20"
    step.mkdir(parents=True)
    seal_checkpoint(step, world_size=2)
    with (output / "starts.jsonl").open("a") as handle:
        handle.write(json.dumps({"time": "2999-01-01T00:00:00Z", "command": "c", "commit": "x", "versions": {}}) + "\n")
    text = card(output / "checkpoints", 20)
    assert "```bash\npython -m recipe.longrl.main a=2\n```" in text
    assert "then x" not in fact(text, "code")
    assert "then x" in fact(card(output / "checkpoints", 30), "code")


def test_a_run_from_before_starts_were_recorded(run):
    output = run(recorded=False)
    text = card(output / "checkpoints")
    assert (fact(text, "code"), fact(text, "versions")) == ("unknown", "unknown")
    assert "Unknown: the run's folder does not contain it." in text
    (output / "summary.json").write_text(json.dumps({"command": "python -m x"}))
    assert "python -m x" in card(output / "checkpoints")


def test_checkpoints_without_a_run(tmp_path: Path):
    text = card(tmp_path / "checkpoints")
    for name in ("base model", "license", "method", "lengths", "training data", "code", "versions"):
        assert fact(text, name) == "unknown"
    assert "Unknown: the run has no metrics.jsonl" in text
    assert fact(text, "step") == "30"
    assert "base_model" not in text


def test_checkpoints_elsewhere(run, tmp_path: Path):
    output = run(f"trainer.default_local_dir={tmp_path / 'ckpt' / 'wells'}")
    assert "| reward | 0.250 | 0.750 |" in card(tmp_path / "ckpt" / "wells")
    output.rename(tmp_path / "gone")
    text = card(tmp_path / "ckpt" / "wells")
    assert "Unknown: the run has no metrics.jsonl" in text
    assert fact(text, "step") == "30, with 32 prompts of 8 rollouts each"


@pytest.mark.parametrize(
    ("folder", "tags", "hub_name"),
    [
        ("export", "[longrl]", "org/first"),
        ("models--org--base/snapshots/0a1b", "[chat]", "org/base"),
        ("downloaded", "[chat]", None),
    ],
    ids=["the stage before", "the hub's cache", "a folder"],
)
def test_a_base_model_in_a_folder(run, tmp_path: Path, folder: str, tags: str, hub_name: str | None):
    base = tmp_path / folder
    base.mkdir(parents=True)
    (base / "README.md").write_text(f"---\nbase_model: org/first\nlicense: apache-2.0\ntags: {tags}\n---\n# Base\n")
    text = card(run(f"actor_rollout_ref.model.path={base}") / "checkpoints")
    (tmp_path / "card.md").write_text(text)
    assert metadata_load(tmp_path / "card.md").get("base_model") == hub_name
    assert fact(text, "license") == "of the base model, according to its card: apache-2.0"
    (base / "README.md").write_text("---\n[broken\n---\n")
    assert fact(card(tmp_path / "run" / "checkpoints"), "license") == "unknown"


def test_a_readme_that_is_no_data_card_stays_out(run, tmp_path: Path):
    checkpoints = run() / "checkpoints"
    (tmp_path / "data" / "funnel.json").unlink()
    assert "Wells" not in card(checkpoints)
    (tmp_path / "data" / "README.md").write_text("---\ndataset_info: {}\n---\n# From a hub\n")
    assert "### From a hub" in card(checkpoints)
    assert "dataset_info" not in card(checkpoints)


def test_the_commit_is_of_the_code_itself(tmp_path: Path):
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    code, other = tmp_path / "code.py", tmp_path / "venv" / "code.py"
    other.parent.mkdir()
    for file in (code, other):
        file.write_text("x = 1\n")
    assert provenance.describe_commit(code) is None
    git("init", "-q")
    git("add", "code.py")
    git("commit", "-q", "-m", "one")
    assert provenance.describe_commit(code) == git("rev-parse", "HEAD")
    assert provenance.describe_commit(other) is None  # installed into a folder of somebody else's repository
    code.write_text("x = 2\n")
    assert provenance.describe_commit(code) == f"{git('rev-parse', 'HEAD')} with uncommitted changes"
