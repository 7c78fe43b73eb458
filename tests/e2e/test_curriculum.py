"""Two stages, the second on what real vLLM mines with the first one's weights; killed while mining, it goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from verl_longrl.data.jsonl import read_jsonl
from verl_longrl.data.schema import read_samples
from verl_longrl.trainer.tmn import tmn_advantages

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

STAGES = """
warmup:
  overrides: [trainer.total_training_steps=1]
hard:
  mine: {rollouts: 4}
  overrides: [trainer.total_training_steps=1]
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The KeyChain world with a model that has barely been warmed up."""
    from recipe.longrl.demo.assets import build_assets
    from recipe.longrl.demo.keychain.build import SHORT, KeychainBuild, KeychainStage

    config = KeychainBuild(train_rows=96, val_rows=2, warm_start=(KeychainStage(100, SHORT, 0.8),))
    return build_assets(config, tmp_path_factory.mktemp("world") / "assets")


def start(world: Path, folder: Path, *more: str) -> subprocess.Popen[str]:
    """Start the curriculum in a process group of its own."""
    (folder / "stages.yaml").write_text(STAGES)
    command = [sys.executable, "-m", "recipe.longrl.curriculum", f"curriculum={folder / 'stages.yaml'}"]
    command += ["model=demo_keychain", "hardware=cpu", f"longrl.output_dir={folder / 'run'}", "data.train_batch_size=4"]
    command += [f"actor_rollout_ref.model.path={world / 'model'}", f"data.val_files=[{world / 'val.parquet'}]"]
    command += ["actor_rollout_ref.actor.ppo_mini_batch_size=4", "actor_rollout_ref.rollout.n=4"]
    command += ["algorithm.filter_groups.enable=false", "trainer.val_before_train=false"]
    command += [f"{stage}.data.train_files=[{world / f'{name}.parquet'}]" for stage, name in
                (("warmup", "plain"), ("hard", "keychain"))]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment.pop("RAY_ADDRESS", None)
    with (folder / "console.txt").open("a") as console:
        return subprocess.Popen(
            [*command, *more],
            stdout=console,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            start_new_session=True,
        )


def test_stages_mine_train_and_go_on_after_a_kill(world: Path, tmp_path: Path):
    rollouts = tmp_path / "run" / "hard" / "mining" / "rollouts.jsonl"
    # few prompts at once, so that there is a middle to be killed in; and tasks mixed and told apart, on the way
    slow = (
        "hard.actor_rollout_ref.rollout.max_num_seqs=4",
        "warmup.longrl.advantage.estimator=tmn",
        "longrl.mix.balanced=true",
    )
    first = start(world, tmp_path, *slow)
    deadline = time.monotonic() + 420
    while len(read_jsonl(rollouts)) < 8:
        assert first.poll() is None, (tmp_path / "console.txt").read_text()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    before = read_jsonl(rollouts)
    trained = (tmp_path / "run" / "warmup" / "metrics.jsonl").read_bytes()
    assert 8 <= len(before) < 96

    again = start(world, tmp_path, *slow)
    try:
        assert again.wait(420) == 0, (tmp_path / "console.txt").read_text()[-3000:]
    finally:
        if again.poll() is None:
            os.killpg(again.pid, signal.SIGKILL)
    console = (tmp_path / "console.txt").read_text()
    assert "stage 1 of 2, warmup: already done" in console
    assert (tmp_path / "run" / "warmup" / "metrics.jsonl").read_bytes() == trained

    (step,) = [row for row in read_jsonl(tmp_path / "run" / "warmup" / "metrics.jsonl") if row["split"] == "train"]
    rows = read_jsonl(tmp_path / "run" / "warmup" / "rollouts" / "train" / "1.jsonl")
    scores, uids, tasks = zip(*((row["score"], row["uid"], row["task"]) for row in rows), strict=True)
    found = tmn_advantages(scores, uids, tasks)  # what the trainer was to train on, from what it logged
    assert step["critic/advantages/max"] == pytest.approx(found.max(), abs=1e-5)
    assert step["critic/advantages/min"] == pytest.approx(found.min(), abs=1e-5)

    lines = read_jsonl(rollouts)
    assert lines[: len(before)] == before
    assert sorted(line["row"] for line in lines) == list(range(96))  # each row once: none was paid for twice
    assert {len(line["answers"]) for line in lines} == {4}
    assert len({tuple(line["responses"]) for line in lines}) > 48  # sampled, not repeated
    found = json.loads((rollouts.parent / "mining.json").read_text())
    assert sum(found["pass_rate"]["loongrl_keychain"]) == 96
    kept = list(read_samples(rollouts.parent / "keychain.parquet"))
    assert len(kept) == found["files"][0]["kept"] >= 4
    assert all(sample.payload["pass_rate"] < 1 for sample in kept)

    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["steps"] == 2
    assert list(summary["stages"]) == ["warmup", "hard"]
    config = (tmp_path / "run" / "hard" / "config.yaml").read_text()
    assert str(tmp_path / "run" / "warmup" / "export") in config
    assert (tmp_path / "run" / "hard" / "export" / "model.safetensors").is_file()
