"""The job's command line, its runtime environment, and its exit status."""

import shlex
import subprocess
import sys
from types import SimpleNamespace

import pytest
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobType

from recipe.longrl import ray_job

pytestmark = pytest.mark.engine


def test_the_command_line_survives_the_shell(tmp_path):
    """Run for real, with a Python that prints what it is given; the folder has a space."""
    folder, python = tmp_path / "my runs", tmp_path / "python"
    folder.mkdir()
    python.write_text(
        '#!/usr/bin/env bash\npwd; printf \'%s\\n\' "$@"\n[ "$2" = recipe.longrl.preflight ] || exit 75\n'
    )
    python.chmod(0o755)
    environment = {"LONGRL_JOB_PYTHON": str(python), "LONGRL_JOB_DIR": str(folder)}
    given = ["longrl.mix.weights='{a: 4}'", "data.train_files=['a b.parquet']"]
    command = ray_job.job_command("recipe.longrl.main", given, environment)
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.returncode == 75
    both = [[str(folder), "-m", f"recipe.longrl.{module}", *given] for module in ("preflight", "main")]
    assert done.stdout.splitlines() == [*both[0], *both[1]]


def test_a_failed_preflight_is_the_jobs_end(tmp_path):
    python = tmp_path / "python"
    python.write_text('#!/usr/bin/env bash\necho "$2"; exit 2\n')
    python.chmod(0o755)
    command = ray_job.job_command("recipe.longrl.main", [], {"LONGRL_JOB_PYTHON": str(python)})
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "recipe.longrl.preflight\n")


@pytest.mark.parametrize(
    ("module", "environment"),
    [("recipe.longrl.main", {"LONGRL_PREFLIGHT": "0"}), ("recipe.longrl.curriculum", {})],
)
def test_without_a_preflight(module: str, environment: dict[str, str]):
    """The curriculum checks each of its stages itself."""
    command = ray_job.job_command(module, ["a=1"], environment)
    assert "preflight" not in command
    assert command.endswith(shlex.join(["exec", sys.executable, "-m", module, "a=1"]))


def test_a_module_is_told_from_an_override():
    assert ray_job.is_module("recipe.longrl.curriculum")
    for other in ("trainer.nnodes=2", "+a.b=1", "--dry-run", "data.train_files=[a.parquet]"):
        assert not ray_job.is_module(other)


def test_the_runtime_environment():
    assert ray_job.job_environment({"NCCL_DEBUG": "INFO", "PATH": "/bin"}) == {
        "env_vars": {
            "NCCL_DEBUG": "INFO",
            "VERL_USE_EXTERNAL_MODULES": "verl_longrl.plugin",
            "RAY_JOB_STOP_WAIT_TIME_S": "1800",
        }
    }
    shipped = ray_job.job_environment({"LONGRL_SHIP": "1", "LONGRL_STOP_WAIT_S": "60"})
    assert shipped["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"] == "60"
    assert [path.rpartition("/")[2] for path in shipped["py_modules"]] == ["recipe", "data_gen", "verl_longrl"]


def test_keys_stay_here(tmp_path):
    """A job's variables are in Ray's logs, and shown to all who reach its dashboard."""
    environment = {"WANDB_API_KEY": "k" * 20, "HF_TOKEN": "t" * 20}
    assert ray_job.job_environment(environment)["env_vars"].keys().isdisjoint(environment)
    assert ray_job.secrets_not_submitted(environment) == ["HF_TOKEN", "WANDB_API_KEY"]
    file = tmp_path / "keys.json"
    file.write_text('{"HF_TOKEN": "t"}')
    file.chmod(0o600)
    given = {**environment, "LONGRL_SECRETS_FILE": str(file)}
    assert ray_job.job_environment(given)["env_vars"]["LONGRL_SECRETS_FILE"] == str(file)
    assert ray_job.secrets_not_submitted(given) == ["WANDB_API_KEY"]
    assert ray_job.secrets_not_submitted({**environment, "LONGRL_SECRETS_FILE": "/on/the/cluster.json"}) == []


def test_a_key_that_the_job_is_to_have_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("MY_TOKEN", "t" * 20)
    monkeypatch.setenv("LONGRL_FORWARD_ENV", "MY_TOKEN")
    assert ray_job.main(["a=1"]) == 2
    assert "LONGRL_FORWARD_ENV names a secret: MY_TOKEN. If the job needs them, set LONGRL_SECRETS_FILE=PATH" in (
        capsys.readouterr().err
    )


def test_a_key_is_no_part_of_the_jobs_command(capsys):
    assert ray_job.main(["longrl.judge.endpoints=[https://me:password@host/v1]"]) == 2
    said = capsys.readouterr().err
    assert "a command must not contain a key or a password" in said
    assert ":password@" not in said


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (JobStatus.SUCCEEDED, 0, 0),
        (JobStatus.FAILED, 2, 2),
        (JobStatus.FAILED, 75, 75),
        (JobStatus.FAILED, -9, 137),
        (JobStatus.FAILED, None, 1),
        (JobStatus.STOPPED, None, 130),
    ],
)
def test_the_exit_status_is_the_jobs(status: JobStatus, code: int | None, expected: int):
    details = JobDetails(type=JobType.SUBMISSION, status=status, entrypoint="x", driver_exit_code=code)
    assert ray_job.exit_status(SimpleNamespace(get_job_info=lambda job: details), "job") == expected


def test_no_cluster_is_a_line_and_status_2(monkeypatch, capsys):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    assert ray_job.main(["a=1"]) == 2
    said = capsys.readouterr().err
    assert "Failed to connect to Ray at address: http://127.0.0.1:9" in said
    assert "no job was submitted. Fix: RAY_ADDRESS=" in said


def test_a_cluster_that_does_not_believe_us_is_a_line_and_status_2(monkeypatch, capsys):
    def refuse() -> None:
        raise AuthenticationError("Forbidden: Invalid authentication token")

    monkeypatch.setattr(ray_job, "JobSubmissionClient", refuse)
    assert ray_job.main(["a=1"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        "submit: Forbidden: Invalid authentication token\nno job was submitted. Fix: RAY_AUTH_MODE=token"
    )
