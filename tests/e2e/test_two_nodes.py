"""Two Ray nodes that ran before the training, one trainer rank and one vLLM replica on each, by scripts/ray.

What is set where the job is submitted, the raylets have never seen: it reaches every worker with the job. Ctrl-C there
has the training save and end.
"""

import json
import os
import signal
import subprocess
import sys
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
    endless = ["trainer.total_training_steps=1000", "trainer.total_epochs=1000", "trainer.save_freq=1000"]
    endless += ["trainer.val_before_train=false", "trainer.test_freq=-1"]
    process = run.start_job(*endless, "trainer.nnodes=2", "trainer.n_gpus_per_node=1", **environment)
    try:
        run.until(lambda: "\nready\n" in run.console, "line 'ready'", process)
        actors = list_actors(address=nodes.dashboard, filters=[("state", "=", "ALIVE")], limit=1000)
        started = {actor.pid: _with_children(actor.pid) for actor in actors}
        variables = {pid: _environment(pid) for pids in started.values() for pid in pids}
        run.until(lambda: run.steps, "step 1", process)
        os.killpg(process.pid, signal.SIGINT)  # Ctrl-C: the job is told to stop, and has its time to save
        assert run.finish(process) == 130, run.console[-4000:]
    finally:
        process.kill()
    assert "SIGTERM: the run will save a checkpoint and end" in run.console
    assert run.checkpoint(run.steps[-1])["world_size"] == 2
    assert all(row["training/rollout_probs_diff_max"] < 1e-4 for row in run.rows("train"))

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


def test_exit_status(nodes, tmp_path):
    """The job's status is the submission's."""
    (tmp_path / "ends.py").write_text("import sys\nprint('ends', sys.argv[1:])\nsys.exit(75)\n")
    environment = {**nodes.environment, "RAY_ADDRESS": nodes.dashboard, "PYTHONPATH": str(tmp_path)}
    environment |= {"LONGRL_FORWARD_ENV": "PYTHONPATH"}
    command = ["bash", str(SCRIPTS / "submit.sh"), "ends", "now=1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 75, done.stdout + done.stderr
    assert "ends ['now=1']" in done.stdout


def _with_children(pid: int) -> list[int]:
    process = psutil.Process(pid)
    return [pid, *(child.pid for child in process.children(recursive=True))]


def _environment(pid: int) -> dict[str, str] | None:
    """Of a process; None if it has ended since."""
    try:
        return psutil.Process(pid).environ()
    except psutil.NoSuchProcess:
        return None
