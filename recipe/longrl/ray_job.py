"""`python -m recipe.longrl.ray_job [--no-wait] [MODULE] [overrides...]`: submit a run as a Ray Job and follow it.

The job runs in the cluster, so it outlives the connection. Its runtime environment forwards our variables and plugin to
every worker (`worker_env.py`). The job runs the preflight, then the training. The exit status is that of the job, which
Ray's own command line reduces to 1. `scripts/ray/submit.sh` wraps this module and explains its variables.

Secrets are not submitted: everybody who can reach the cluster's dashboard or Ray's logs can read what a job is
submitted with. The job reads them from a file on a disk of the cluster (LONGRL_SECRETS_FILE), or from the environment
of the head node's Ray.
"""

import asyncio
import os
import shlex
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient
from verl_longrl import secrets

from recipe.longrl import override_files, worker_env

ROOT = Path(__file__).resolve().parents[2]
TRAINING = "recipe.longrl.main"
PACKAGES = ("recipe", "data_gen", "verl/verl_longrl")
CLUSTER_ADDRESS = (
    "RAY_ADDRESS=http://HEAD:8265, or HEAD:6379 from a node of the cluster; `bash scripts/ray/start.sh` starts one"
)
PROVIDE_SECRETS = (
    f"If the job needs them, set {secrets.FILE_VARIABLE}=PATH to a file on a disk of the cluster with "
    f"{secrets.EXAMPLE}, mode 600; or start the head's Ray with them in its environment"
)
AUTH_TOKEN = (
    "RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=FILE; scripts/ray/start.sh writes the file `token` in "
    "${TMPDIR:-/tmp}/longrl-ray-UID/PORT of each host"
)
STOPPED = 128 + signal.SIGINT
RECONNECT_S, RECONNECT_FOR_S = 5.0, 600.0


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns the exit status: that of the job, 130 if it was stopped, 2 if none was submitted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    wait, arguments = "--no-wait" not in arguments, [a for a in arguments if a != "--no-wait"]
    module = arguments.pop(0) if arguments and is_module(arguments[0]) else TRAINING
    try:
        environment, withheld = job_environment(os.environ), secrets_not_submitted(os.environ)
        command = job_command(module, arguments, os.environ)
        if secrets.redact(command) != command:
            raise worker_env.ForwardError(f"a command must not contain a key or a password: {secrets.redact(command)}")
        client = JobSubmissionClient()
        job = client.submit_job(entrypoint=command, runtime_env=environment)
    except (worker_env.ForwardError, secrets.SecretsError) as error:
        print(f"submit: {error}", file=sys.stderr)
        return 2
    except AuthenticationError as error:
        print(f"submit: {error.message}\nno job was submitted. Fix: {AUTH_TOKEN}", file=sys.stderr)
        return 2
    except (ConnectionError, RuntimeError) as error:
        print(f"submit: {error}\nno job was submitted. Fix: {CLUSTER_ADDRESS}", file=sys.stderr)
        return 2
    address = client.get_address()
    print(f"submit: {job} at {address}, forwarding {', '.join(sorted(environment['env_vars']))}", flush=True)
    if withheld:
        print(f"submit: not submitted, because a job's variables can be read: {', '.join(withheld)}. {PROVIDE_SECRETS}")
    if not wait:
        print(f"follow:  ray job logs --follow --address {address} {job}")
        print(f"stop:    ray job stop --no-wait --address {address} {job}   (saves a checkpoint first)")
        return 0
    return asyncio.run(follow_job(client, job))


def is_module(argument: str) -> bool:
    """Whether an argument names a module (recipe.longrl.curriculum), rather than an override, a flag or a file."""
    return not argument.endswith(override_files.ENDINGS) and all(part.isidentifier() for part in argument.split("."))


def job_command(module: str, arguments: list[str], environment: Mapping[str, str]) -> str:
    """The job's command line: go to the submitting folder, run the preflight and, if that passes, the module."""
    python = environment.get("LONGRL_JOB_PYTHON") or sys.executable
    folder = environment.get("LONGRL_JOB_DIR") or os.getcwd()
    steps = [["cd", folder], ["export", "RAY_DEDUP_LOGS=0"]]
    if module == TRAINING and environment.get("LONGRL_PREFLIGHT", "1") != "0":
        steps.append([python, "-m", "recipe.longrl.preflight", *arguments])
    steps.append(["exec", python, "-m", module, *arguments])
    return " && ".join(shlex.join(step) for step in steps)


def job_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """The job's runtime environment: forwarded variables, the time to save when it is stopped and, with LONGRL_SHIP=1,
    this checkout's packages. Raises ForwardError."""
    variables = worker_env.forwarded_env(environment).variables
    # Ray kills a job 3 s after it was told to stop, too soon for a checkpoint.
    variables["RAY_JOB_STOP_WAIT_TIME_S"] = environment.get("LONGRL_STOP_WAIT_S", "1800")
    shipped = environment.get("LONGRL_SHIP", "0") == "1"
    return {"env_vars": variables} | ({"py_modules": [str(ROOT / name) for name in PACKAGES]} if shipped else {})


def secrets_not_submitted(environment: Mapping[str, str]) -> list[str]:
    """The secrets that are set here and that the job will not have.

    Raises ForwardError when LONGRL_FORWARD_ENV names one of them, and SecretsError when $LONGRL_SECRETS_FILE is visible
    here and invalid.
    """
    file = Path(environment.get(secrets.FILE_VARIABLE, ""))
    in_file = secrets.read_file(file) if file.is_file() else {}
    # The file may be on a disk that only the cluster has.
    if secrets.FILE_VARIABLE in environment and not in_file:
        return []
    missing = [name for name in worker_env.forwarded_env(environment).secrets if name not in in_file]
    if requested := [name for name in missing if name in worker_env.requested_names(environment)]:
        raise worker_env.ForwardError(f"{worker_env.FORWARD} names a secret: {', '.join(requested)}. {PROVIDE_SECRETS}")
    return missing


async def follow_job(client: JobSubmissionClient, job: str) -> int:
    """Print the job's log until it ends. The first Ctrl-C (or SIGTERM) stops the job, which saves a checkpoint first;
    the second one stops following it. Returns the exit status."""
    log, stopping = asyncio.ensure_future(_print_log(client, job)), asyncio.Event()

    def interrupted() -> None:
        if stopping.is_set():
            log.cancel()
            return
        stopping.set()
        print(f"submit: stopping {job}, which saves a checkpoint first (Ctrl-C again to stop waiting)", file=sys.stderr)
        client.stop_job(job)

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, interrupted)
    try:
        await log
    except asyncio.CancelledError:
        print(f"submit: no longer waiting; `ray job status {job}` shows its state", file=sys.stderr)
        return STOPPED
    return exit_status(client, job)


def exit_status(client: JobSubmissionClient, job: str) -> int:
    """The exit status of a job that has ended; 128 + signal if one ended it, 130 if stopped, 1 if it never ran."""
    info = client.get_job_info(job)
    if info.status == JobStatus.SUCCEEDED:
        return 0
    if info.status == JobStatus.STOPPED:
        print(f"submit: {job} was stopped", file=sys.stderr)
        return STOPPED
    if info.driver_exit_code is None:
        print(f"submit: {job} failed without an exit status: {info.message}", file=sys.stderr)
        return 1
    print(f"submit: {job} ended with exit status {info.driver_exit_code}", file=sys.stderr)
    return info.driver_exit_code if info.driver_exit_code >= 0 else 128 - info.driver_exit_code


async def _print_log(client: JobSubmissionClient, job: str) -> None:
    """Print the job's log until the job has ended. Reconnects for RECONNECT_FOR_S before it raises an error."""
    printed, lost_at = 0, None
    while True:
        # Ray sends the log from its beginning on every call.
        received = 0
        try:
            async for text in client.tail_job_logs(job):
                print(secrets.redact(text[max(0, printed - received) :]), end="", flush=True)
                received, lost_at = received + len(text), None
                printed = max(printed, received)
            if client.get_job_status(job).is_terminal():
                return
        except (RuntimeError, OSError, aiohttp.ClientError) as error:
            lost_at = lost_at or time.monotonic()
            if time.monotonic() - lost_at > RECONNECT_FOR_S:
                raise
            print(f"submit: lost the log of {job} ({error}), reconnecting; the job keeps running", file=sys.stderr)
        await asyncio.sleep(RECONNECT_S)


if __name__ == "__main__":
    sys.exit(main())
