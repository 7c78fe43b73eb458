"""What goes wrong on clusters, for real: a reward worker killed, a signal, a vLLM replica that hangs and then dies.

One run through all of it, in three starts of the same command; in the end every step is there once.
"""

import os
import re
import signal
import time

import psutil
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from verl_longrl.trainer.rollout_log import read_jsonl

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]
STEPS = 6
INTERRUPTED = 75


def test_reward_worker_killed_signal_replica_killed(run):
    # no checkpoint but those that an interruption makes, and the last
    command = [f"trainer.total_training_steps={STEPS}", "trainer.save_freq=100", "trainer.test_freq=100"]
    command += ["longrl.watchdog_minutes=0.05"]

    # a reward worker dies: it is started again, and the run goes on; then SIGTERM: saved, and the status says go on
    process = run.start(*command)
    try:
        step(run, process, 1)
        os.kill(worker_of(process, "RewardLoopWorker").pid, signal.SIGKILL)
        said(run, process, r"RewardLoopWorker reward_loop_worker_\d .*died and is started again")
        step(run, process, steps(run)[-1] + 1)
    finally:
        process.terminate()
    assert run.finish(process) == INTERRUPTED, run.console[-4000:]
    assert "SIGTERM: the run will save a checkpoint and end" in run.console
    first = steps(run)[-1]
    assert re.search(
        rf"interrupted: step {first + 1}: asked to stop \(SIGTERM\)\. \S+global_step_{first} is saved", run.console
    )
    assert run.checkpoint(first)["world_size"] == 2
    assert "Traceback" not in run.console

    # a replica hangs: the watchdog says where the run stands; it dies: saved again
    process = run.start(*command)
    try:
        step(run, process, first + 1)
        engine = worker_of(process, "EngineCore")
        engine.suspend()
        said(
            run, process, r"standing still for .*: waiting for rollouts; .*oldest requests: .* for [\d,]+ s \(prompt of"
        )
    finally:
        engine.kill()
    assert run.finish(process) == INTERRUPTED, run.console[-4000:]
    second = steps(run)[-1]
    assert second > first
    assert run.checkpoint(second)["world_size"] == 2

    # the same command goes on to the end
    assert run.finish(run.start(*command)) == 0, run.console[-4000:]
    assert run.console.count("resume: continuing from") == 2
    assert steps(run) == list(range(1, STEPS + 1))
    prompts = [{row["prompt"] for row in read_jsonl(run.output / "rollouts" / f"{n}.jsonl")} for n in steps(run)]
    assert all(len(of_step) == 4 for of_step in prompts), "a group was lost"
    assert len(set.union(*prompts)) == 4 * STEPS, "a prompt came twice: the data order was not continued"
    assert all(len(read_jsonl(run.output / "rollouts" / f"{n}.jsonl")) == 16 for n in steps(run)), "a rollout was lost"
    curve = EventAccumulator(str(run.output / "tensorboard")).Reload().Scalars("reward/score")
    assert [event.step for event in curve] == steps(run)


def steps(run) -> list[int]:
    return [row["step"] for row in run.rows("train")] if (run.output / "metrics.jsonl").exists() else []


def step(run, process, number: int) -> None:
    until(run, process, lambda: number in steps(run), f"step {number}")


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
