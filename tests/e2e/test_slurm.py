"""A real Slurm, two nodes: the tiny run reaches its time limit, saves, is requeued, resumes and finishes.

Slurm is Debian's, unpacked for the test (tests/support/slurm_cluster.py); where it can't be had, these are skipped
with a reason that says so. Both nodes are this machine, each with a Ray node of its own and one logical GPU.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from support.slurm_cluster import SlurmCluster, SlurmUnavailable

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]
INTERRUPTED, REFUSED = 75, 2
OPTIONS = ["--nodes=2", "--time=60"]
PYTHON = """#!/usr/bin/env bash
# The environment's Python; the test decides while a run trains how long it is to be.
case "$*" in *" recipe.longrl.main "*) set -- "$@" trainer.total_training_steps="$(cat {steps})" ;; esac
exec {python} "$@"
"""


class Jobs:
    """The cluster, and what a submission to it needs."""

    def __init__(self, cluster: SlurmCluster, folder: Path) -> None:
        self.cluster, self.local_dir, self.steps = cluster, folder / "local", folder / "steps"
        python = folder / "venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(PYTHON.format(steps=self.steps, python=sys.executable))
        python.chmod(0o755)
        ray = "--num-gpus=1 --num-cpus=16 --object-store-memory=300000000"
        own = {"LONGRL_VENV": str(folder / "venv"), "LONGRL_LOCAL_DIR": str(self.local_dir), "LONGRL_RAY_OPTIONS": ray}
        self.environment = {**cluster.variables, **own}

    def left_over(self) -> list[list[str]]:
        """Command lines of processes that jobs have started and not ended."""
        lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
        return [line for line in lines if any(str(self.local_dir) in word for word in line)]

    def until(self, condition: Callable[[], object], run, timeout_s: float = 600) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"{logs(run)}\n{self.cluster.logs()}"
            time.sleep(0.5)


@pytest.fixture(scope="module")
def jobs() -> Iterator[Jobs]:
    folder = Path(tempfile.mkdtemp(prefix="sl-"))  # short, for sockets lie in it
    try:
        with SlurmCluster(folder / "slurm") as cluster:
            yield Jobs(cluster, folder)
    except SlurmUnavailable as error:
        pytest.skip(str(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_time_limit_requeue_resume(run, jobs):
    own = {**jobs.environment, "LONGRL_LOGS": str(run.folder / "logs")}
    jobs.steps.write_text("1000")
    overrides = ["trainer.nnodes=2", "trainer.n_gpus_per_node=1", "trainer.total_epochs=1000"]
    overrides += ["trainer.val_before_train=false", "trainer.test_freq=-1", "trainer.save_freq=1000"]
    job = run.submit(OPTIONS, *overrides, **own)

    # in the second step the time limit comes near: Slurm sends its signal, and only what that makes is saved
    jobs.until(lambda: run.steps or ended(jobs, job), run)
    assert run.steps, logs(run)
    jobs.cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=9")
    jobs.until(lambda: jobs.cluster.job(job)["Restarts"] == "1", run)
    jobs.until(lambda: jobs.cluster.job(job)["JobState"] == "PENDING", run)
    saved = run.steps[-1]
    assert run.checkpoint(saved)["world_size"] == 2
    assert jobs.left_over() == []

    # Slurm lets a requeued job wait for two minutes; in the second in which it was killed a node would refuse it
    jobs.steps.write_text(str(saved + 2))
    jobs.cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=60", "StartTime=now+5")
    ended_as = jobs.cluster.wait(job, timeout_s=600)
    assert outcome(ended_as) == ("COMPLETED", "0:0", "1"), f"{logs(run)}\n{jobs.cluster.logs()}"
    assert run.steps == list(range(1, saved + 3))
    assert (run.output / "export" / "model.safetensors").exists()
    assert jobs.left_over() == []

    folder = run.folder / "logs" / str(job)
    assert (folder / "latest").resolve() == folder / "attempt-1"
    first, second = (folder / f"attempt-{attempt}" for attempt in (0, 1))
    for attempt in (first, second):
        assert {path.name for path in attempt.glob("*.log")} == {"job.log", "ray-n1.log", "ray-n2.log", "train-n1.log"}
        assert "ray: 2 of 2 nodes joined" in (attempt / "train-n1.log").read_text()
        for node in ("n1", "n2"):  # a trainer rank and a vLLM replica on each
            files = (attempt / f"ray-{node}").glob("worker-*.out")
            written = "".join(file.read_text(errors="replace") for file in files)
            assert ":actor_name:WorkerDict" in written, node
            assert ":actor_name:vLLMHttpServer" in written, node
    told = (first / "job.log").read_text()
    assert "SIGUSR1: asking the training to save and stop" in told
    assert f"the training ended with status {INTERRUPTED}" in told
    assert told.endswith("requeued\n")
    resumed = f"resume: continuing from {run.output}/checkpoints/global_step_{saved}"
    assert resumed in (second / "train-n1.log").read_text()


def test_a_refused_run_is_not_requeued(run, jobs):
    own = {**jobs.environment, "LONGRL_LOGS": str(run.folder / "logs")}
    jobs.steps.write_text("1")
    array = run.submit([*OPTIONS, "--seeds=7"], "trainer.experiment_name=x", "longrl.reward.eta=-1", **own)
    ended_as = jobs.cluster.wait(f"{array}_7", timeout_s=300)
    assert outcome(ended_as) == ("FAILED", f"{REFUSED}:0", "0"), logs(run)
    latest = run.folder / "logs" / f"{array}_7" / "latest"
    assert "data.seed=7" in (latest / "job.log").read_text()
    assert "trainer.experiment_name=x-seed7" in (latest / "job.log").read_text()
    assert "eta" in (latest / "train-n1.log").read_text()
    assert jobs.left_over() == []


def outcome(job: dict[str, str]) -> tuple[str, str, str]:
    return job["JobState"], job["ExitCode"], job["Restarts"]


def ended(jobs: Jobs, job: int) -> bool:
    return jobs.cluster.job(job)["JobState"] not in ("PENDING", "RUNNING")


def logs(run) -> str:
    """The ends of what the jobs of a run wrote."""
    files = sorted((run.folder / "logs").glob("**/*.log")) + sorted((run.folder / "logs").glob("*.out"))
    shown = [file for file in files if "latest" not in file.parts and not file.parent.name.startswith("ray-")]
    return "\n".join(f"== {file}\n{file.read_text(errors='replace')[-2500:]}" for file in shown)
