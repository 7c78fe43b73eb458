"""Supervised fine-tuning under torchrun: killed and resumed, it exports the same bytes as without the kill."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from verl_longrl.data.demonstrations import Demonstration, write_demonstrations
from verl_longrl.data.jsonl import read_jsonl
from verl_longrl.data.schema import read_samples

from data_gen.demonstrations import __main__ as demonstrations

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
STEPS = 3


@pytest.fixture(scope="module")
def demos(assets: Path) -> Path:
    """Demonstrations of the demo's documents, quoted by rule."""
    out = assets.parent / "demos.parquet"
    train = str(assets / "train.parquet")
    demonstrations.app(["from-gold", train, "--out", str(out), "--limit", "16"], standalone_mode=False)
    return out


class Run:
    """A run of `python -m recipe.longrl.sft` in a folder of its own."""

    def __init__(self, assets: Path, demos: Path, folder: Path) -> None:
        self.assets, self.demos, self.folder, self.output = assets, demos, folder, folder / "run"

    def start(self, *overrides: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "recipe.longrl.sft", "hardware=cpu", f"longrl.output_dir={self.output}"]
        command += [f"actor_rollout_ref.model.path={self.assets / 'model'}", f"sft.train_files=[{self.demos}]"]
        command += [f"sft.val_files=[{self.demos}]", f"sft.steps={STEPS}", "sft.batch_size=8", "sft.lr=1e-3"]
        command += ["sft.save_freq=1", "longrl.checkpoints_to_keep=null", "trainer.logger=[]", *overrides]
        environment = {key: os.environ[key] for key in os.environ.keys() - {"PYTHONDONTWRITEBYTECODE"}}
        environment["OMP_NUM_THREADS"] = "1"
        with (self.folder / "console.txt").open("a") as console:
            return subprocess.Popen(
                command,
                stdout=console,
                stderr=subprocess.STDOUT,
                text=True,
                env={**environment, "OMP_NUM_THREADS": "1"},
            )

    def finish(self, *overrides: str) -> int:
        """The exit status of a whole start."""
        with self.start(*overrides) as process:
            try:
                return process.wait(600)
            finally:
                process.kill()

    @property
    def console(self) -> str:
        """What the run has printed, without the frames of tables."""
        return " ".join((self.folder / "console.txt").read_text().replace("│", " ").split())

    def metrics(self, split: str, name: str) -> list[float]:
        return [row[name] for row in read_jsonl(self.output / "metrics.jsonl") if row["split"] == split]


@pytest.fixture
def supervised(assets: Path, demos: Path, tmp_path: Path):
    """supervised(name) -> a run in a folder of its own."""

    def make(name: str) -> Run:
        (tmp_path / name).mkdir()
        return Run(assets, demos, tmp_path / name)

    return make


def digest(run: Run) -> str:
    return hashlib.sha256((run.output / "export" / "model.safetensors").read_bytes()).hexdigest()


def test_killed_and_resumed_exports_the_same_bytes(supervised):
    whole, killed = supervised("whole"), supervised("killed")
    assert whole.finish() == 0, whole.console[-3000:]

    process, first = killed.start(), killed.output / "checkpoints" / "global_step_1" / "complete.json"
    while not first.exists():
        assert process.poll() is None, killed.console[-3000:]
        time.sleep(0.05)
    # Only the first process: the ranks must not live longer than it.
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert killed.finish() == 0, killed.console[-3000:]
    assert "resume: continuing from" in killed.console
    assert killed.metrics("train", "step") == whole.metrics("train", "step") == [1, 2, 3]
    assert killed.metrics("train", "train/loss") == whole.metrics("train", "train/loss")
    assert digest(killed) == digest(whole)

    held_out = whole.metrics("val", "val/loss")
    assert len(held_out) == 2
    assert held_out[1] < held_out[0]
    summary = json.loads((whole.output / "summary.json").read_text())
    assert summary["before"]["loss"] == held_out[0]
    assert summary["steps"] == STEPS
    assert "supervised fine-tuning on demonstrations" in (whole.output / "export" / "README.md").read_text()

    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(whole.output / "export")
    assert AutoTokenizer.from_pretrained(whole.output / "export").chat_template
    assert all(bool(weights.isfinite().all()) for weights in model.parameters())

    assert whole.finish("sft.lr=2e-3") == 2
    assert "actor_rollout_ref.actor.optim.lr: 0.001 -> 0.002" in whole.console


def test_what_must_not_be_trained_on_is_named_before_anything_starts(supervised, assets: Path):
    run = supervised("refused")
    samples = list(read_samples(assets / "train.parquet"))[:8]
    run.demos = run.folder / "bad.parquet"
    write_demonstrations(run.demos, [Demonstration(sample, "</think> no answer") for sample in samples])
    assert run.finish("--dry-run") == 2
    assert "row 0: response has less than full marks" in run.console
    assert not run.output.exists()
