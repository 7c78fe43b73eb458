"""A run that is as it must be at its end, made of files alone."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from faults import small_run
from faults.trial import Trial
from safetensors.torch import save_file
from verl_longrl.trainer import checkpoints
from verl_longrl.trainer.rollout_log import RolloutLog


def write_rows(path: Path, lines: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_run(trial: Trial) -> None:
    write_rows(
        trial.output / "metrics.jsonl", [{"split": "train", "step": step} for step in range(1, small_run.STEPS + 1)]
    )
    log = RolloutLog(trial.output / "rollouts")
    prompts = log.add_prompts([(f"prompt {number}", {}) for number in range(small_run.STEPS * small_run.PROMPTS)])
    for step in range(1, small_run.STEPS + 1):
        step_prompts = prompts[(step - 1) * small_run.PROMPTS : step * small_run.PROMPTS]
        rollouts = [{"prompt": p, "response": f"{p}, {n}"} for p in step_prompts for n in range(small_run.ROLLOUTS)]
        log.write_step("train", step, rollouts)
    for step in (small_run.STEPS - small_run.SAVE_EVERY, small_run.STEPS):
        folder = trial.checkpoints / f"global_step_{step}" / "actor"
        folder.mkdir(parents=True)
        torch.save({"weight": torch.arange(1000.0)}, folder / "model_world_size_1_rank_0.pt")
        checkpoints.seal_checkpoint(folder.parent, 1)
    (trial.output / "export").mkdir()
    save_file({"weight": torch.ones(10)}, trial.output / "export" / "model.safetensors")


@pytest.fixture
def new_trial(tmp_path: Path):
    """new_trial(name) -> a trial at its end, without processes."""
    assets = tmp_path / "assets"
    (assets / "model").mkdir(parents=True)
    save_file({"weight": torch.zeros(10)}, assets / "model" / "model.safetensors")
    trials: list[Trial] = []

    def new(name: str) -> Trial:
        trial = Trial(name, tmp_path / name, assets, 0, {})
        trials.append(trial)
        trial.write_user_files()
        write_run(trial)
        (trial.folder / "console-1.txt").write_text("step 6/6\n")
        monitor = SimpleNamespace(exposed=set(), reachable=set(), left_behind=list, __exit__=lambda *_: None)
        family = SimpleNamespace(find_survivors=list, kill=lambda: None)
        process = SimpleNamespace(poll=lambda: 0)
        trial.starts.append(
            SimpleNamespace(status=0, allowed_statuses=(0,), monitor=monitor, family=family, process=process)
        )
        return trial

    yield new
    for trial in trials:
        trial.close()
