"""The main job for real: two trainer ranks, two vLLM replicas, GRPO steps, in two starts of the same command.

While the first trains, no other machine can call its processes, and a second start is refused. Then the driver is
killed, and the second start trains to the end. No step, prompt or rollout is lost or done twice. What else goes wrong
on clusters: test_chaos.py.
"""

import json
import os
import re
import signal
from collections import Counter

import psutil
import pytest
import torch
from safetensors.torch import load_file
from support.unauthenticated_peers import family, reachable, turned_away
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from verl_longrl.data.schema import read_samples
from verl_longrl.platform import zygote
from verl_longrl.trainer.recorded_run import RecordedRun

from recipe.longrl.evaluation.report import write_report

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]
EPOCH = 64
"""Prompts of the data: of 16 steps, more than this run has."""
PARTS = ("score", "answer", "context", "recall", "precision", "format", "status_ok", "judge_fallback")


def test_train_kill_resume(run):
    common = ["trainer.test_freq=1000", "trainer.total_epochs=1000", *suites(run.assets)]
    process = run.start(*common, "trainer.total_training_steps=1000", "trainer.save_freq=1")
    try:
        step(run, process, 1)
        for name in ("WorkerDict", "EngineCore"):  # forks, by Ray and by multiprocessing
            assert zygote.__name__ in title(worker_of(process, name).parent())
        assert reachable(family(process.pid)) == [], "another machine could call"
        tried = turned_away(family(process.pid), run.folder)
        assert tried == {"TransferQueueController": 2, "SimpleStorageUnit": 1, "vLLMHttpServer": 2}
        assert run.finish(run.start(*common), timeout_s=120) == 2
        assert f"not started: {run.output} is in use by process {process.pid} on " in run.console
        following = run.steps[-1] + 1  # earlier ones may be rotated away
        run.wait_for(run.output / "checkpoints" / f"global_step_{following}" / "complete.json", process)
    finally:
        os.kill(process.pid, signal.SIGKILL)  # with no chance to tidy up
    process.wait()
    killed = run.steps
    assert killed == list(range(1, len(killed) + 1))

    last = len(killed) + 2
    process = run.start(*common, f"trainer.total_training_steps={last}", "trainer.save_freq=1000")
    assert run.finish(process) == 0, run.console[-4000:]
    (resumed,) = re.findall(r"resume: continuing from .*global_step_(\d+)", run.console)
    assert len(killed) - 1 <= int(resumed) <= len(killed)
    assert "Traceback" not in run.console
    assert run.steps == list(range(1, last + 1))
    for line in (run.output / "metrics.jsonl").read_text().splitlines():
        assert json.loads(line, parse_constant=pytest.fail)
    assert not list(run.output.rglob(".lock-*"))
    assert [row["step"] for row in run.rows("val")] == [0, last]
    curve = EventAccumulator(str(run.output / "tensorboard")).Reload().Scalars("reward/score")
    assert [event.step for event in curve] == run.steps
    assert (run.output / "summary.json").is_file()

    # suites were answered once before the first step and once after the last, and are runs to be reported
    evaluated = run.rows("evaluate")
    assert [row["step"] for row in evaluated] == [0, last]
    for row in evaluated:
        assert (row["evaluate/held_out/rows"], row["evaluate/held_out/failed_share"]) == (4, 0)
        assert (row["evaluate/ruler/rows"], row["evaluate/ruler/failed_share"]) == (4, 0)
        assert 0 < row["evaluate/held_out/reward/mean"] <= 1
        assert {f"evaluate/ruler/official/{name}" for name in ("mean", "length_600", "length_900")} <= set(row)
    final = run.rows("train")[-1]
    assert final["timing_s/evaluate"] > 0
    assert final["evaluate/held_out/reward/mean"] == evaluated[-1]["evaluate/held_out/reward/mean"]
    reported = write_report(run.output / "evaluate" / f"step_{last}")["sets"]["held_out"]["headline"]
    assert reported["mean"] == evaluated[-1]["evaluate/held_out/reward/mean"]

    # two ranks wrote the checkpoint
    manifest = run.checkpoint(last)
    assert manifest["world_size"] == 2
    assert {f"actor/model_world_size_2_rank_{rank}.pt" for rank in (0, 1)} <= set(manifest["files"])

    # rollout and trainer agree at every step, so also after every weight sync and after each resume
    train = run.rows("train")
    for row in train:
        assert row["training/rollout_probs_diff_valid"] == 1
        assert row["training/rollout_probs_diff_max"] < 1e-4, row["step"]
        assert row["rollout/prompt_storage_fraction"] == 1 / 4  # of 4 rollouts
        assert {f"reward/{part}" for part in PARTS} <= set(row)
        assert {f"reward/longrlvr/{part}" for part in PARTS} <= set(row)
    assert train[0]["host_memory/trainer_gib"] > 0

    # the optimizer moved the weights, and the exported model holds them
    before, after = (
        load_file(folder / "model.safetensors") for folder in (run.assets / "model", run.output / "export")
    )
    assert any(not torch.equal(before[name], after[name]) for name in after)
    assert any(row["actor/grad_norm"] > 0 for row in train)

    # every part of the reward is in the rollouts, and no prompt or rollout was lost or came twice
    recorded = RecordedRun(run.output)
    recorded.index.update()
    recorded.prompts.update()
    prompts = recorded.prompts
    seen: Counter[str] = Counter()
    for row in train[: EPOCH // 4]:
        rollouts = [recorded.rollout(at) for at in recorded.index.find("train", row["step"])]
        assert len(rollouts) == 16
        assert {"response", "status", "reason", *PARTS} <= set(rollouts[0])
        mean = sum(rollout["score"] for rollout in rollouts) / len(rollouts)
        assert mean == pytest.approx(row["reward/score"], abs=1e-6)
        for rollout in rollouts:
            assert len(rollout["cited_ids"]) == rollout["cited"]
            assert rollout["weights_step"] == row["step"] - 1
            assert rollout["logprob_gap"] < 1e-3
            assert rollout["seconds"] > 0
            assert rollout["finish_reason"] == ("length" if rollout["response_tokens"] == 32 else "stop")
        assert any(rollout["advantage"] for rollout in rollouts) or row["group/zero_variance_frac"] == 1
        seen.update(rollout["prompt"] for rollout in rollouts)
    assert set(seen.values()) == {4}, "a prompt was lost or came twice: the data order was not continued"
    assert set(seen) <= set(prompts)
    assert "<CHUNK_0>" in recorded.prompts.text(next(iter(prompts)))
    lengths = {sample.index: sample.prompt_tokens for sample in read_samples(run.assets / "train.parquet")}
    for prompt in map(prompts.__getitem__, seen):
        assert prompt["prompt_tokens"] == lengths[prompt["index"]]
        assert (prompt["file"], prompt["row"]) == (str(run.assets / "train.parquet"), prompt["index"])
        assert set(prompt["ref_chunks"]) <= set(range(prompt["num_chunks"]))

    # the held-out ones, too: each validation has the same prompts
    held_out = [set(recorded.index["prompt"][recorded.index.find("val", step)]) for step in recorded.index.steps("val")]
    assert list(recorded.index.steps("val")) == [row["step"] for row in run.rows("val")]
    assert all(prompts == held_out[0] for prompts in held_out)
    assert recorded.info()["status"] == "complete"
    assert recorded.info()["status"] == "complete"


def suites(assets) -> list[str]:
    """Two suites of four rows: the held-out file, and RULER's shortest."""
    ours, ruler = "longrl.evaluate.sets.held_out", "longrl.evaluate.sets.ruler"
    options = ["longrl.evaluate.suites=[held_out,ruler]", "longrl.evaluate.limit=4", "longrl.evaluate.every=1000"]
    options += [f"{ours}.benchmark=own_parquet", f"{ours}.options.path={assets / 'val.parquet'}", f"{ours}.slice=all"]
    return [*options, f"{ruler}.options.lengths=[600,900]", f"{ruler}.options.tasks=[niah_single_1,vt]"]


def step(run, process, number: int) -> None:
    run.until(lambda: number in run.steps, f"step {number}", process)


def worker_of(process, name: str) -> psutil.Process:
    """A process of the run's with this in its title."""
    return next(child for child in psutil.Process(process.pid).children(recursive=True) if name in title(child))


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
