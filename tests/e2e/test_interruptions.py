"""What goes wrong on clusters, for real: a reward worker killed, a vLLM replica that hangs and then dies, a signal.

One run through all of it, in two starts of the same command; no step, prompt or rollout is lost or done twice.
"""

import os
import re
import signal
import time
from collections import Counter

import psutil
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from verl_longrl.trainer.rollout_log import read_jsonl

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]
INTERRUPTED = 75
EPOCH = 64
"""Prompts of the data."""


def test_reward_worker_killed_replica_killed_signal(run):
    # no checkpoint but those that an interruption makes
    command = ["trainer.total_training_steps=1000", "trainer.save_freq=1000", "trainer.test_freq=1000"]
    command += ["trainer.total_epochs=1000", "longrl.watchdog_minutes=0.05", "trainer.val_before_train=false"]

    # a reward worker dies: it is started again, and the run goes on
    process = run.start(*command)
    try:
        step(run, process, 1)
        os.kill(worker_of(process, "RewardLoopWorker").pid, signal.SIGKILL)
        said(run, process, r"RewardLoopWorker reward_loop_worker_\d .*died and is started again")
        step(run, process, run.steps[-1] + 1)
        # a replica hangs: the watchdog says where the run stands; it dies: saved, and the status says to go on
        engine = worker_of(process, "EngineCore")
        engine.suspend()
        said(run, process, r"standing still for .*: waiting for rollouts; .*requests: .* for [\d,]+ s \(prompt of")
        engine.kill()
        assert run.finish(process) == INTERRUPTED, run.console[-4000:]
    finally:
        process.kill()
    first = interrupted(run, "rollouts of . prompts failed|vLLMHttpServer .*died")

    # a signal: saved, and the status says to go on
    process = run.start(*command)
    try:
        step(run, process, first + 2)
    finally:
        process.terminate()
    assert run.finish(process) == INTERRUPTED, run.console[-4000:]
    assert "SIGTERM: the run will save a checkpoint and end" in run.console
    second = interrupted(run, r"asked to stop \(SIGTERM\)")
    assert f"resume: continuing from {run.output}/checkpoints/global_step_{first}" in run.console
    assert "Traceback" not in run.console

    assert run.steps == list(range(1, second + 1))
    rollouts = [read_jsonl(run.output / "rollouts" / f"{number}.jsonl") for number in run.steps]
    assert {len(of_step) for of_step in rollouts} == {16}, "a rollout was lost"
    prompts = [row["prompt"] for of_step in rollouts[: EPOCH // 4] for row in of_step]
    assert set(Counter(prompts).values()) == {4}, "a prompt was lost or came twice: the data order was not continued"
    curve = EventAccumulator(str(run.output / "tensorboard")).Reload().Scalars("reward/score")
    assert [event.step for event in curve] == run.steps


def interrupted(run, why: str) -> int:
    """The step of which a whole checkpoint was saved, by two ranks; it is the last that is on record."""
    last = run.steps[-1]
    line = rf"interrupted: step {last + 1}: .*({why}).*global_step_{last} is saved; repeat the command"
    assert re.search(line, run.console), run.console[-4000:]
    assert run.checkpoint(last)["world_size"] == 2
    return last


def step(run, process, number: int) -> None:
    until(run, process, lambda: number in run.steps, f"step {number}")


def said(run, process, pattern: str) -> None:
    until(run, process, lambda: re.search(pattern, run.console), f"line {pattern!r}")


def until(run, process, reached, what: str, timeout_s: float = 300) -> None:
    deadline = time.monotonic() + timeout_s
    while not reached():
        assert process.poll() is None, f"the run ended before {what}:\n{run.console[-3000:]}"
        assert time.monotonic() < deadline, f"no {what} after {timeout_s} s:\n{run.console[-3000:]}"
        time.sleep(0.2)


def worker_of(process, name: str) -> psutil.Process:
    """A process of the run's with this in its title."""
    return next(child for child in psutil.Process(process.pid).children(recursive=True) if name in title(child))


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
