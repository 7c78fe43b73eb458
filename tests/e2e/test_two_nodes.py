"""Two Ray nodes that ran before the training, one trainer rank and one vLLM replica on each, by scripts/ray.

What is set where the job is submitted, the raylets have never seen: it reaches every worker with the job. Ctrl-C there
has the training save and end.
"""

import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
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
        **nodes.token,
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
        actors = _actors(nodes)
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


def test_strangers_run_nothing(nodes, tmp_path):
    """Whoever reaches a port, and has no token: what Ray would run for them leaves a file. Ray Client's is closed."""
    processes = [process for process in psutil.process_iter(["environ"]) if _is_of(process, nodes)]
    listening = [c for process in processes for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    places = {(c.laddr.port, "127.0.0.1" if c.laddr.ip in ("0.0.0.0", "::") else c.laddr.ip) for c in listening}
    ports, left = {port for port, _ in places}, tmp_path / "left"
    assert {nodes.port, nodes.dashboard_port} <= ports
    assert 10001 not in ports
    job, asked = json.dumps({"entrypoint": f"touch {left}"}).encode(), {}
    for (port, ip), path in itertools.product(places, ("/api/jobs/", "/api/job_agent/jobs/")):
        request = urllib.request.Request(f"http://{ip}:{port}{path}", job, {"Content-Type": "application/json"})
        try:
            asked[port, path] = urllib.request.urlopen(request, timeout=5).status
        except urllib.error.HTTPError as error:
            asked[port, path] = error.code
        except (OSError, http.client.HTTPException):
            continue  # gRPC's
    assert asked[nodes.dashboard_port, "/api/jobs/"] == 401
    agents = [port for (port, path), status in asked.items() if path == "/api/job_agent/jobs/" and status == 401]
    assert len({*agents} - {nodes.dashboard_port}) >= 2, asked
    assert 200 not in asked.values()
    time.sleep(2)
    assert not left.exists()


def test_exit_status(nodes, tmp_path):
    """The job's status is the submission's. On a host of the cluster its token is found."""
    (tmp_path / "ends.py").write_text("import sys\nprint('ends', sys.argv[1:])\nsys.exit(75)\n")
    environment = {**nodes.environment, **nodes.on_head, "PYTHONPATH": str(tmp_path)}
    environment |= {"LONGRL_FORWARD_ENV": "PYTHONPATH"}
    command = ["bash", str(SCRIPTS / "submit.sh"), "ends", "now=1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 75, done.stdout + done.stderr
    assert "ends ['now=1']" in done.stdout


def _actors(nodes) -> list[SimpleNamespace]:
    """Those that are alive, as `ray list actors` has them."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "list", "actors", "--format", "json", "--limit", "1000"]
    command += ["--address", nodes.dashboard, "--filter", "state=ALIVE"]
    done = subprocess.run(command, env=os.environ | nodes.token, capture_output=True, text=True, check=True)
    return [SimpleNamespace(**actor) for actor in json.loads(done.stdout)]


def _is_of(process: psutil.Process, nodes) -> bool:
    """Whether a process is one of Ray's on these nodes."""
    return str(process.info["environ"] and process.info["environ"].get("TMPDIR")).startswith(str(nodes.folder))


def _with_children(pid: int) -> list[int]:
    process = psutil.Process(pid)
    return [pid, *(child.pid for child in process.children(recursive=True))]


def _environment(pid: int) -> dict[str, str] | None:
    """Of a process; None if it has ended since."""
    try:
        return psutil.Process(pid).environ()
    except psutil.NoSuchProcess:
        return None
