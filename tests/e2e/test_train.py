"""The main job for real: two trainer ranks, two vLLM replicas, GRPO steps, a kill -9 and a resume."""

import os
import signal

import pytest
import torch
from safetensors.torch import load_file
from verl_longrl.data.schema import read_samples
from verl_longrl.trainer.rollout_log import read_jsonl

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]
STEPS = 4


def test_train_kill_resume(run):
    overrides = [f"trainer.total_training_steps={STEPS}", "trainer.save_freq=1", "trainer.test_freq=4"]
    process = run.start(*overrides)
    try:
        run.wait_for(run.output / "checkpoints" / "global_step_2" / "complete.json", process)
    finally:
        os.kill(process.pid, signal.SIGKILL)  # the driver alone, with no chance to tidy up
    process.wait()
    steps_before_the_kill = [row["step"] for row in run.rows("train")]

    assert run.finish(run.start(*overrides)) == 0, run.console[-4000:]
    assert "resume: continuing from" in run.console

    # ends at the same step, each step once, in order
    train = run.rows("train")
    assert [row["step"] for row in train] == list(range(1, STEPS + 1))
    assert steps_before_the_kill == sorted(set(steps_before_the_kill))
    assert run.rows("val")[0]["step"] == 0
    assert run.rows("val")[-1]["step"] == STEPS

    # rollout and trainer agree at every step, so also after every weight sync and after the resume
    for row in train:
        assert row["training/rollout_probs_diff_valid"] == 1
        assert row["training/rollout_probs_diff_max"] < 1e-4, row["step"]
        assert row["rollout/prompts_stored"] == 1 / 4  # of 4 rollouts

    # the optimizer moved the weights, and the exported model holds them
    before, after = (
        load_file(folder / "model.safetensors") for folder in (run.assets / "model", run.output / "export")
    )
    assert any(not torch.equal(before[name], after[name]) for name in after)
    assert any(row["actor/grad_norm"] > 0 for row in train)

    # every part of the reward is in the metrics and in the rollouts
    parts = ("score", "answer", "context", "recall", "precision", "format", "status_ok", "judge_fallback")
    for row in train:
        assert {f"reward/{part}" for part in parts} <= set(row)
        assert {f"reward/longrlvr/{part}" for part in parts} <= set(row)
    assert train[0]["host_memory/trainer_gib"] > 0
    prompts = {row["prompt"]: row for row in read_jsonl(run.output / "rollouts" / "prompts.jsonl")}
    seen: set[str] = set()
    for row in train:
        rollouts = read_jsonl(run.output / "rollouts" / f"{row['step']}.jsonl")
        assert len(rollouts) == 16
        assert {"response", "status", "reason", *parts} <= set(rollouts[0])
        mean = sum(rollout["score"] for rollout in rollouts) / len(rollouts)
        assert mean == pytest.approx(row["reward/score"], abs=1e-6)
        of_step = {rollout["prompt"] for rollout in rollouts}
        assert len(of_step) == 4
        assert not of_step & seen, "a prompt came twice within an epoch: the data order was not continued"
        seen |= of_step
    assert seen <= set(prompts)
    assert "<CHUNK_0>" in next(iter(prompts.values()))["text"]
    lengths = {sample.index: sample.prompt_tokens for sample in read_samples(run.assets / "train.parquet")}
    assert all(prompt["prompt_tokens"] == lengths[prompt["index"]] for prompt in prompts.values())

    # two ranks wrote the checkpoint
    manifest = run.checkpoint(STEPS)
    assert manifest["world_size"] == 2
    assert {f"actor/model_world_size_2_rank_{rank}.pt" for rank in (0, 1)} <= set(manifest["files"])
    assert (run.output / "summary.json").is_file()
