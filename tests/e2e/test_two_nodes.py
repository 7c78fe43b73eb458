"""Two Ray nodes that ran before the training, one trainer rank and one vLLM replica on each, by scripts/ray.

What is set where the job is submitted, the raylets have never seen: it reaches every worker with the job. Ctrl-C there
has the training save and end.
"""

import http.client
import json
import os
import re
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
from support.fake_ssh_hosts import SCRIPTS, RayHosts
from support.secret_canaries import files_with

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]
WITHOUT_VERL = ("JobSupervisor", "SimpleStorageUnit", "TransferQueueController")
SECRETS = {"WANDB_API_KEY": "a-secret-of-the-user", "HF_TOKEN": "a-secret-in-a-file"}
JOBS = ("/api/jobs/", "/api/job_agent/jobs/")  # the dashboard's, an agent's
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
    plugin_probe = tmp_path / "plugin_probe"
    plugin_probe.mkdir()
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"HF_TOKEN": SECRETS["HF_TOKEN"]}))
    keys.chmod(0o600)
    environment = {
        "RAY_ADDRESS": nodes.dashboard,
        **nodes.token,
        "LONGRL_VENV": sys.prefix,
        "LONGRL_SHIP": "1",
        "LONGRL_FORWARD_ENV": "PYTHONPATH,PLUGIN_PROBE",
        "PYTHONPATH": str(SUPPORT),
        "PLUGIN_PROBE": str(plugin_probe),
        "VERL_USE_EXTERNAL_MODULES": "plugin_probe",
        "WANDB_API_KEY": SECRETS["WANDB_API_KEY"],
        "LONGRL_SECRETS_FILE": str(keys),
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
    assert "SIGTERM: saving a checkpoint, then exiting" in run.console
    assert run.checkpoint(run.steps[-1])["world_size"] == 2
    assert all(row["training/rollout_probs_diff_max"] < 1e-4 for row in run.rows("train"))

    named = [(f"{actor.class_name} {actor.name}", actor) for actor in actors]
    for kind in ("WorkerDict", "vllm_server"):  # of the trainer, of a replica: one on each node
        places = [actor.node_id for name, actor in named if kind in name]
        assert len(places) == len({*places}) == 2, [name for name, _ in named]

    # what was set at the submission is in every actor and in what each has started, such as vLLM's engines
    assert [pid for pid, found in variables.items() if found and found.get("PLUGIN_PROBE") != str(plugin_probe)] == []
    answers = {int(file.stem): json.loads(file.read_text()) for file in plugin_probe.glob("*.json")}
    silent = [name for name, actor in named if actor.pid not in answers]
    assert [name for name in silent if not name.startswith(WITHOUT_VERL)] == []
    assert all(answer["loaded"] and "runtime_resources" in answer["file"] for answer in answers.values()), answers

    # keys come from a file on the cluster, stay here otherwise, and are written nowhere
    assert {answer["token"] for answer in answers.values()} == {SECRETS["HF_TOKEN"]}
    assert re.search("submit: not submitted.*WANDB_API_KEY", run.console)
    keys.unlink()
    assert list(nodes.folder.rglob("runtime_env_agent.log"))
    assert [*files_with(run.output, SECRETS), *files_with(nodes.folder, SECRETS)] == []
    assert not any(secret in run.console for secret in SECRETS.values())


def test_strangers_run_nothing(nodes, tmp_path):
    """Whoever reaches a port, and has no token: what Ray would run for them leaves a file. Ray Client's is closed."""
    left, deadline, refused, answers = tmp_path / "left", time.monotonic() + 60, 0, {}
    while refused < 3:  # the dashboard, and each node's agent when it is up
        assert time.monotonic() < deadline, f"who wants a token: {answers}"
        listening = nodes.listening()
        answers = {(port, path): _submit(url, path, left) for port, url in listening.items() for path in JOBS}
        refused = len({port for (port, _), status in answers.items() if status == 401})
    assert {nodes.port, nodes.dashboard_port} <= listening.keys()
    assert 10001 not in listening
    assert 200 not in answers.values()
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


def _submit(url: str, path: str, file: Path) -> int | None:
    """The status with which a server answers to a job that would make the file; None if it speaks no HTTP."""
    job = json.dumps({"entrypoint": f"touch {file}"}).encode()
    request = urllib.request.Request(url + path, job, {"Content-Type": "application/json"})
    try:
        return urllib.request.urlopen(request, timeout=5).status
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, http.client.HTTPException):
        return None


def _with_children(pid: int) -> list[int]:
    process = psutil.Process(pid)
    return [pid, *(child.pid for child in process.children(recursive=True))]


def _environment(pid: int) -> dict[str, str] | None:
    """Of a process; None if it has ended since."""
    try:
        return psutil.Process(pid).environ()
    except psutil.NoSuchProcess:
        return None
