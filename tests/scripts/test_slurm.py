"""scripts/slurm without Slurm: fake sbatch, srun and scontrol record their calls.

tests/e2e/test_slurm.py uses a real Slurm and a real training.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from slurm.requeue import count_deaths, decide

ROOT = Path(__file__).resolve().parents[2]
SLURM = ROOT / "scripts" / "slurm"
FAKE_COMMANDS = {
    "sbatch": 'printf "%q " sbatch "$@" >>"$CALLS"; echo >>"$CALLS"; echo "42;cluster"',
    "scontrol": """printf "%q " scontrol "$@" >>"$CALLS"; echo >>"$CALLS"
case "$*" in
  "show hostnames "*) printf "%s\\n" n1 n2 ;;
  "show node "*) echo "NodeName=n1 Arch=x86_64 NodeAddr=localhost NodeHostName=n1" ;;
  requeue*) exit "${REQUEUE_STATUS:-0}" ;;
esac""",
    "squeue": 'echo "42.2 ray"; echo "42.3 train"',
    "scancel": 'printf "%q " scancel "$@" >>"$CALLS"; echo >>"$CALLS"',
    "srun": """printf "%q " srun "$@" >>"$CALLS"; echo >>"$CALLS"
case "$*" in
  *" getent "*) echo "127.0.0.1 STREAM n1" ;;
  *" ray "*) until [ -n "${RAY_DIES:-}" ] || grep -q "scancel --signal=TERM 42.2" "$CALLS"; do sleep 0.1; done ;;
  *" train "*)
    until [ -z "${UNTIL:-}" ] || [ -s "$UNTIL" ] || grep -q "scancel --signal=TERM 42.3" "$CALLS"; do sleep 0.1; done
    exit "$STATUS" ;;
esac""",
}


class Launcher:
    """Runs the scripts with fake Slurm commands, in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls_file = folder, folder / "calls"
        (folder / "bin").mkdir()
        for name, text in FAKE_COMMANDS.items():
            (folder / "bin" / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
            (folder / "bin" / name).chmod(0o755)
        (folder / "user").mkdir()
        prefixes = ("LONGRL_", "SLURM_")
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(prefixes)}
        self.environment |= {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "CALLS": str(self.calls_file)}
        self.environment |= {"LONGRL_VENV": sys.prefix, "LONGRL_LOCAL_DIR": "/tmp/longrl-unit"}

    def submit(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return self._wait(self.start("submit.sh", *arguments, **variables))

    def job(self, *arguments: str, status: int, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the batch script with a training that ends with `status`."""
        return self._wait(self.start_job(*arguments, status=status, **variables))

    def start_job(self, *arguments: str, status: int, **variables: str) -> subprocess.Popen[str]:
        slurm = {"SLURM_JOB_ID": "42", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_SUBMIT_DIR": str(ROOT)}
        return self.start("train.sbatch", *arguments, STATUS=str(status), **{**slurm, **variables})

    def start(self, script: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        self.calls_file.write_text("")
        command = ["bash", str(SLURM / script), *arguments]
        environment = {**self.environment, **variables}
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=self.folder / "user", env=environment, **output)

    @staticmethod
    def _wait(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
        out, error = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, error)

    def calls(self, *words: str) -> list[list[str]]:
        """The calls that contain all of these words."""
        calls = [shlex.split(line) for line in self.calls_file.read_text().splitlines()]
        return [call for call in calls if {*words} <= {*call}]


@pytest.fixture
def launcher(tmp_path: Path) -> Launcher:
    return Launcher(tmp_path)


def test_submission(launcher: Launcher):
    overrides = ["data.train_files=['a b.parquet']", "~longrl.x", "hardware=16gpu"]
    done = launcher.submit("--nodes=2", overrides[0], "--time=1:00:00", *overrides[1:])
    assert done.returncode == 0, done.stderr
    (call,) = launcher.calls("sbatch")
    logs = launcher.folder / "user" / "logs"
    assert call[1:] == [
        *("--parsable", f"--output={logs}/slurm-%j.out", "--nodes=2", "--time=1:00:00"),
        *(str(SLURM / "train.sbatch"), *overrides),
    ]
    assert logs.is_dir()
    printed = done.stdout.splitlines()
    assert shlex.split(printed[0]) == call
    assert "submitted job 42;" in printed[1]
    assert printed[1].endswith(f"{logs}/42/latest")
    assert "scancel --batch --signal=TERM 42" in printed[2]


def test_seeds_are_an_array(launcher: Launcher):
    done = launcher.submit("--seeds=1-3%2", "trainer.experiment_name=x")
    assert done.returncode == 0, done.stderr
    (call,) = launcher.calls("sbatch")
    assert {"--array=1-3%2", f"--output={launcher.folder}/user/logs/slurm-%A_%a.out"} <= {*call}


def test_dry_run_submits_nothing(launcher: Launcher):
    python = launcher.folder / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/usr/bin/env bash\necho "python $*"\nexit 2\n')
    python.chmod(0o755)
    arguments = ["--dry-run", "--module=recipe.longrl.curriculum", "--nodes=2", "curriculum=demo"]
    done = launcher.submit(*arguments, LONGRL_VENV=str(launcher.folder / "venv"))
    assert launcher.calls() == []
    assert done.stdout.splitlines()[0].startswith("sbatch --parsable")
    assert done.stdout.splitlines()[1] == "python -m recipe.longrl.curriculum --dry-run curriculum=demo"
    assert done.returncode == 2, "a run that its own check refuses"


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        (["-N", "2"], {}, "'-N': write options of sbatch as --name=value"),
        (["hardware"], {}, "'hardware' is neither an option (--name=value) nor an override (key=value)"),
        (["--array=1-3"], {}, "Fix: --seeds=1-3"),
        (["--seeds=a", "trainer.experiment_name=x"], {}, "--seeds=a: expected e.g. 1-3 or 1,2,5"),
        (["--seeds=1-3"], {}, "--seeds needs trainer.experiment_name=NAME"),
        (["--module=recipe.longrl.man"], {}, "LONGRL_MODULE = 'recipe.longrl.man': no such module in"),
        ([], {"LONGRL_VENV": "/absent"}, "no Python at /absent/bin/python. Fix: run 'bash scripts/setup.sh gpu'"),
        ([], {"LONGRL_MAX_RESTARTS": "many"}, "LONGRL_MAX_RESTARTS = 'many': expected a whole number"),
        ([], {"LONGRL_LOCAL_DIR": "scratch"}, "LONGRL_LOCAL_DIR = 'scratch': expected an absolute path"),
        ([], {"LONGRL_LOCAL_DIR": "/" + "x" * 30}, "Ray's sockets leave room for 26"),
        ([], {"LONGRL_CONTAINER_IMAGE": "i"}, "LONGRL_CONTAINER_RUNTIME=pyxis or apptainer"),
        ([], {"LONGRL_CONTAINER_RUNTIME": "pyxis"}, "needs LONGRL_CONTAINER_IMAGE=IMAGE"),
        ([], {"LONGRL_CONTAINER_RUNTIME": "docker"}, "= 'docker': expected pyxis, apptainer or nothing"),
    ],
)
def test_wrong_arguments_are_explained(launcher: Launcher, arguments, variables, message):
    done = launcher.submit(*arguments, **variables)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert launcher.calls() == []


def test_a_machine_without_slurm_is_named(launcher: Launcher):
    (launcher.folder / "bin" / "sbatch").unlink()
    tools = launcher.folder / "tools"
    tools.mkdir()
    for name in ("bash", "dirname", "grep", "id", "mkdir", "realpath"):
        (tools / name).symlink_to(str(shutil.which(name)))
    done = launcher.submit(PATH=str(tools))
    assert "no sbatch on PATH. Fix: submit from a machine of the cluster" in done.stderr


def test_the_steps_of_a_job(launcher: Launcher):
    done = launcher.job("a=1", "b='x y'", status=7)
    assert done.returncode == 7, done.stderr
    attempt = launcher.folder / "user" / "logs" / "42" / "attempt-0"
    (ray,), (train,) = launcher.calls("ray"), launcher.calls("train")
    assert {"--nodes=2", "--ntasks=2", "--overlap"} <= {*ray}
    assert {"--nodes=1", "--nodelist=n1", "--overlap"} <= {*train}
    node = ["bash", str(SLURM / "node.sh")]
    assert train[-8:] == [*node, "train", str(attempt), "/tmp/longrl-unit", "recipe.longrl.main", "a=1", "b='x y'"]
    assert launcher.calls("--nodelist=n2", "getent"), "the head's address is what another node finds for it"
    assert not launcher.calls("requeue")
    assert "the training ended with status 7" in (attempt / "job.log").read_text()
    assert (attempt.parent / "latest").resolve() == attempt


def test_each_seed_is_a_separate_run(launcher: Launcher):
    arguments = ["trainer.experiment_name=old", "longrl.output_dir='/o/a b'", "trainer.experiment_name=new"]
    array = {"SLURM_ARRAY_JOB_ID": "40", "SLURM_ARRAY_TASK_ID": "3"}
    launcher.job(*arguments, status=0, **array)
    (train,) = launcher.calls("train")
    assert train[train.index("recipe.longrl.main") + 1 :] == [
        *(*arguments, "data.seed=3", "actor_rollout_ref.rollout.seed=3"),
        *("trainer.experiment_name=new-seed3", "longrl.output_dir='/o/a b-seed3'"),
    ]
    assert (launcher.folder / "user" / "logs" / "40_3" / "latest").exists()


@pytest.mark.parametrize("runtime", ["pyxis", "apptainer"])
def test_containers(launcher: Launcher, runtime: str):
    container = {"LONGRL_CONTAINER_RUNTIME": runtime, "LONGRL_CONTAINER_IMAGE": "image", "LONGRL_VENV": ""}
    done = launcher.job(status=0, LONGRL_CONTAINER_MOUNTS="/d:/data", **container)
    assert done.returncode == 0, done.stderr
    work = launcher.folder / "user"
    paths = (ROOT, work, work / "logs", "/tmp/longrl-unit")
    mounts = ",".join([*(f"{path}:{path}" for path in paths), "/d:/data"])
    for role in ("ray", "train"):
        (call,) = launcher.calls(role)
        node = call.index(str(SLURM / "node.sh")) - 1
        if runtime == "pyxis":
            container_words = ["--container-image=image", f"--container-mounts={mounts}", f"--container-workdir={work}"]
        else:
            container_words = ["apptainer", "exec", "--nv", "--bind", mounts, "--pwd", str(work), "image"]
        assert call[node - len(container_words) : node] == container_words


@pytest.mark.parametrize(
    ("variables", "requeued", "message"),
    [
        ({}, True, "requeued"),
        ({"SLURM_RESTART_COUNT": "99"}, True, "requeued"),
        (
            {"SLURM_RESTART_COUNT": "100"},
            False,
            "not requeued: restarted 100 times, LONGRL_MAX_RESTARTS = 100; submit the same command",
        ),
        (
            {"REQUEUE_STATUS": "1"},
            True,
            "could not be requeued (the site or --no-requeue forbids it); submit the same command",
        ),
    ],
)
def test_a_run_that_has_saved_is_requeued(launcher: Launcher, variables, requeued, message):
    done = launcher.job(status=75, **variables)
    assert done.returncode == 75
    assert bool(launcher.calls("scontrol", "requeue", "42")) == requeued
    assert message in done.stdout


def test_repeated_worker_deaths_end_the_job(launcher: Launcher):
    deaths = [launcher.job(status=75, SLURM_RESTART_COUNT=str(attempt)).stdout for attempt in range(3)]
    assert [out.splitlines()[-1].endswith("requeued") for out in deaths] == [True, True, False]
    assert (
        "a worker died in each of 3 attempts in a row (LONGRL_MAX_DEATHS); submit the same command again" in deaths[-1]
    )


@pytest.mark.parametrize(("sent", "requeued"), [(signal.SIGUSR1, True), (signal.SIGTERM, False)])
def test_signals_reach_the_training(launcher: Launcher, sent: signal.Signals, requeued: bool):
    file = launcher.folder / "user" / "logs" / "42" / "attempt-0" / "signal"
    process = launcher.start_job(status=75, UNTIL=str(file))
    deadline = time.monotonic() + 30
    while not launcher.calls("train"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(sent)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 75
    assert file.read_text() == sent.name.removeprefix("SIG") + "\n"
    assert bool(launcher.calls("requeue")) == requeued
    assert ("not requeued: stopped by SIGTERM, as requested" in out) == (not requeued)


@pytest.mark.parametrize(
    ("status", "signal_name", "restarts", "deaths", "decision"),
    [
        (0, "", 0, 0, "stop: the training is complete"),
        (2, "", 0, 0, "stop: a training that ended with status 2 cannot resume"),
        (75, "USR1", 0, 0, "requeue"),
        (75, "USR1", 100, 0, "stop: restarted 100 times"),
        (75, "TERM", 0, 0, "stop: stopped by SIGTERM, as requested; submit the same command again to resume"),
        (75, "", 0, 2, "requeue"),
        (75, "", 0, 3, "stop: a worker died in each of 3 attempts in a row"),
        (75, "USR1", 0, 3, "requeue"),
    ],
)
def test_the_decision_to_requeue(status, signal_name, restarts, deaths, decision):
    assert decide(status, signal_name, restarts, 100, deaths, 3).startswith(decision)


def test_deaths_are_counted_in_a_row(tmp_path: Path):
    file = tmp_path / "deaths"
    ends = [(75, ""), (75, ""), (75, "USR1"), (75, ""), (1, ""), (75, "")]
    counts = [count_deaths(file, f"attempt-{n}", status, name) for n, (status, name) in enumerate(ends)]
    assert counts == [1, 2, 0, 1, 0, 2]


def test_ray_dying_ends_the_job(launcher: Launcher):
    done = launcher.job(status=9, RAY_DIES="yes", UNTIL="/never")
    assert done.returncode == 9
    assert "Ray ended on a node before the training did" in done.stdout


@pytest.fixture
def node(tmp_path: Path):
    """node(LONGRL_LOCAL_DIR, variables) runs node.sh with a fake Python that only writes logs -> (status, log)."""
    python, attempt = tmp_path / "python", tmp_path / "attempt"
    python.write_text(
        """#!/usr/bin/env bash
        for option; do case "$option" in --temp-dir=*) logs=${option#*=}/session_latest/logs ;; esac; done
        mkdir -p "$logs"
        for name in worker.out runtime_env_agent.log runtime_env_setup-1.log; do echo "a-secret" >"$logs/$name"; done
        printf '%s\\n' "$@" "caches $HF_MODULES_CACHE $TRITON_CACHE_DIR" "temporary $TMPDIR $(stat -c %a "$TMPDIR")"
        echo "Ray runtime started"
        """
    )
    python.chmod(0o755)
    attempt.mkdir()
    slurm = {"SLURM_JOB_ID": "42", "SLURM_NODEID": "0", "SLURM_CPUS_ON_NODE": "4", "SLURMD_NODENAME": "n1"}
    slurm |= {"LONGRL_RAY_ADDRESS": "127.0.0.1:1", "LONGRL_PYTHON_COMMAND": str(python), "PATH": os.environ["PATH"]}

    def run(local: Path, **variables: str) -> tuple[int, str]:
        command = ["bash", str(SLURM / "node.sh"), "ray", str(attempt), str(local)]
        status = subprocess.run(command, env=slurm | variables, timeout=60).returncode
        return status, (attempt / "ray-n1.log").read_text()

    return run


def test_a_nodes_files_belong_to_this_user_only(node, tmp_path: Path):
    status, log = node(tmp_path / "local", LONGRL_RAY_OPTIONS="--num-gpus=1 --labels='a b'")
    assert status == 0, log
    local = tmp_path / "local"
    assert log.splitlines()[-5:-2] == [
        "--num-gpus=1",
        "--labels=a b",
        f"caches {local}/cache/modules {local}/cache/triton",
    ]
    assert f"temporary {local}/42-0/tmp 700" in log
    assert [folder.stat().st_mode & 0o777 for folder in (local, local / "cache")] == [0o700, 0o700]
    assert not (local / "42-0").exists()
    kept = tmp_path / "attempt" / "ray-n1"
    assert [file.name for file in kept.iterdir()] == ["worker.out"], "not those with variables' values"
    assert (kept.stat().st_mode & 0o777, (kept / "worker.out").stat().st_mode & 0o777) == (0o700, 0o600)


@pytest.mark.parametrize("name", [".", "cache", "42-0"])
def test_a_folder_that_somebody_prepared_is_rejected(node, tmp_path: Path, name: str):
    """Code in these caches is executed."""
    trap, place = tmp_path / "trap", tmp_path / "local" / name
    trap.mkdir()
    if name == ".":
        place = tmp_path / "local"
    else:
        (tmp_path / "local").mkdir(mode=0o700)
    place.symlink_to(trap)
    status, log = node(tmp_path / "local")
    assert status == 2
    assert f"{place} is a link" in log
    assert list(trap.iterdir()) == []


def test_logs_belong_to_this_user_only(launcher: Launcher):
    launcher.job(status=0)
    logs = launcher.folder / "user" / "logs"
    assert (logs / "42").stat().st_mode & 0o777 == 0o700
    (call,) = launcher.calls("bash", "-c")
    assert call[-3:] == ['source "$0" && private "$1"', str(ROOT / "scripts" / "lib.sh"), "/tmp/longrl-unit"]
    assert "--nodes=2" in call


def test_a_missing_repository_is_named(launcher: Launcher):
    done = launcher.job(status=0, SLURM_SUBMIT_DIR="/elsewhere")
    assert done.returncode == 2
    assert "no /elsewhere/scripts/slurm/common.sh. Fix: submit with scripts/slurm/submit.sh" in done.stderr
