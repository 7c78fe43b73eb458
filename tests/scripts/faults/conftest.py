"""A run as it must be in the end, made of files alone."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from faults import world
from faults.trial import Trial
from safetensors.torch import save_file
from verl_longrl.trainer import checkpoints


def rows(path: Path, lines: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_run(trial: Trial) -> None:
    rows(trial.output / "metrics.jsonl", [{"split": "train", "step": step} for step in range(1, world.STEPS + 1)])
    prompts = [f"prompt {number}" for number in range(world.STEPS * world.PROMPTS)]
    rows(trial.output / "rollouts" / "prompts.jsonl", [{"prompt": prompt} for prompt in prompts])
    for step in range(1, world.STEPS + 1):
        of_step = prompts[(step - 1) * world.PROMPTS : step * world.PROMPTS]
        said = [{"prompt": p, "response": f"{p}, {n}"} for p in of_step for n in range(world.ROLLOUTS)]
        rows(trial.output / "rollouts" / f"{step}.jsonl", said)
    for step in (world.STEPS - world.SAVE_EVERY, world.STEPS):
        folder = trial.checkpoints / f"global_step_{step}" / "actor"
        folder.mkdir(parents=True)
        torch.save({"weight": torch.arange(1000.0)}, folder / "model_world_size_1_rank_0.pt")
        checkpoints.seal(folder.parent, 1)
    (trial.output / "export").mkdir()
    save_file({"weight": torch.ones(10)}, trial.output / "export" / "model.safetensors")


@pytest.fixture
def new_trial(tmp_path: Path):
    """A trial that has come to its end, by name. Nothing was ever started."""
    assets = tmp_path / "assets"
    (assets / "model").mkdir(parents=True)
    save_file({"weight": torch.zeros(10)}, assets / "model" / "model.safetensors")
    made: list[Trial] = []

    def new(name: str) -> Trial:
        trial = Trial(name, tmp_path / name, assets, 0, {})
        made.append(trial)
        trial.write_foreign()
        write_run(trial)
        (trial.folder / "console-1.txt").write_text("step 6/6\n")
        witness = SimpleNamespace(exposed=set(), reachable=set(), left_behind=list, __exit__=lambda *_: None)
        family = SimpleNamespace(left=list, kill=lambda: None)
        process = SimpleNamespace(poll=lambda: 0)
        trial.starts.append(SimpleNamespace(status=0, allowed=(0,), witness=witness, family=family, process=process))
        return trial

    yield new
    for trial in made:
        trial.close()
