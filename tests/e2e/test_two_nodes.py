"""Two Ray nodes that ran before the training, one trainer rank and one vLLM replica on each, by scripts/ray.

What is set where the job is submitted, the raylets have never seen: it reaches every worker with the job.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from ray.util.state import list_actors
from ray_hosts import SCRIPTS, RayHosts

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]
WITHOUT_VERL = ("JobSupervisor", "SimpleStorageUnit", "TransferQueueController")
SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture(scope="module")
def nodes():
    hosts = RayHosts(sys.prefix)
    try:
        hosts.start()
        yield hosts
    finally:
        hosts.stop()


def test_one_rank_and_one_replica_on_each_node(nodes, run, tmp_path):
    roll_call = tmp_path / "roll_call"
    roll_call.mkdir()
    environment = {
        "RAY_ADDRESS": nodes.dashboard,
        "LONGRL_VENV": sys.prefix,
        "LONGRL_SHIP": "1",
        "LONGRL_FORWARD_ENV": "PYTHONPATH,ROLL_CALL",
        "PYTHONPATH": str(SUPPORT),
        "ROLL_CALL": str(roll_call),
        "VERL_USE_EXTERNAL_MODULES": "roll_call",
        "WANDB_API_KEY": "a-secret-of-the-user",
    }
    one_step = ["trainer.total_training_steps=1", "trainer.val_before_train=false", "trainer.test_freq=-1"]
    process = run.start_job(
        *(*one_step, "trainer.save_freq=-1", "trainer.nnodes=2", "trainer.n_gpus_per_node=1"), **environment
    )
    try:
        while "\nready\n" not in run.console:
            assert process.poll() is None, run.console[-4000:]
            time.sleep(0.2)
        actors = list_actors(address=nodes.dashboard, filters=[("state", "=", "ALIVE")], limit=1000)
        started = {actor.pid: _with_children(actor.pid) for actor in actors}
        variables = {pid: _environment(pid) for pids in started.values() for pid in pids}
    finally:
        status = run.finish(process)
    assert status == 0, run.console[-4000:]
    (row,) = run.rows("train")
    assert row["training/rollout_probs_diff_max"] < 1e-4

    named = [(f"{actor.class_name} {actor.name}", actor) for actor in actors]
    for kind in ("WorkerDict", "vllm_server"):  # of the trainer, of a replica: one on each node
        places = [actor.node_id for name, actor in named if kind in name]
        assert len(places) == len({*places}) == 2, [name for name, _ in named]

    # what was set at the submission is in every actor and in what each has started, such as vLLM's engines
    assert [pid for pid, found in variables.items() if found and found.get("ROLL_CALL") != str(roll_call)] == []
    answers = {int(file.stem): json.loads(file.read_text()) for file in roll_call.glob("*.json")}
    silent = [name for name, actor in named if actor.pid not in answers]
    assert [name for name in silent if not name.startswith(WITHOUT_VERL)] == []
    assert all(answer["loaded"] and "runtime_resources" in answer["file"] for answer in answers.values()), answers

    # and is written nowhere
    written = [*run.folder.rglob("*.yaml"), *run.folder.rglob("*.log"), run.folder / "console.txt"]
    assert run.output / "config.yaml" in written
    assert not [file for file in written if "a-secret-of-the-user" in file.read_text(errors="replace")]


def test_exit_status_and_ctrl_c(nodes, tmp_path):
    """The job's status is the submission's; Ctrl-C gives the job its time to save."""
    (tmp_path / "saves.py").write_text(
        "import signal, sys, time\n"
        "def save(*_):\n    time.sleep(4)\n    print('saved', flush=True)\n    sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "print('started', flush=True)\n"
        "signal.raise_signal(signal.SIGTERM) if sys.argv[1:] else time.sleep(600)\n"
    )
    environment = {**nodes.environment, "RAY_ADDRESS": nodes.dashboard, "PYTHONPATH": str(tmp_path)}
    environment |= {"LONGRL_FORWARD_ENV": "PYTHONPATH"}
    command = ["bash", str(SCRIPTS / "submit.sh"), "saves"]
    with (tmp_path / "log").open("w") as log:
        running = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        done = subprocess.run([*command, "now=1"], env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 75, done.stdout + done.stderr
        assert "saved" in done.stdout
        deadline = time.monotonic() + 120
        while "started" not in (tmp_path / "log").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.2)
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(120) == 130
    assert "saved" in (tmp_path / "log").read_text()


def _with_children(pid: int) -> list[int]:
    process = psutil.Process(pid)
    return [pid, *(child.pid for child in process.children(recursive=True))]


def _environment(pid: int) -> dict[str, str] | None:
    """Of a process; None if it has ended since."""
    try:
        return psutil.Process(pid).environ()
    except psutil.NoSuchProcess:
        return None
