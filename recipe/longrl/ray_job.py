"""`python -m recipe.longrl.ray_job [--no-wait] [MODULE] [overrides...]`: a run as a Ray Job, followed to its end.

The job runs in the cluster, so it outlives the connection; its runtime environment carries our variables and plugin
to every worker (`workers.carried`). The preflight goes first, where the training will be. The exit status is the job's
own, which Ray's command line reduces to 1. `scripts/ray/submit.sh` is this with its variables explained.

Keys stay here: what a job is submitted with is open to all who reach the cluster's dashboard, and in Ray's logs. The
job finds them in a file on a disk of the cluster (LONGRL_SECRETS_FILE), or in the environment of its head node.
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

from recipe.longrl import worker_env

ROOT = Path(__file__).resolve().parents[2]
TRAINING = "recipe.longrl.main"
PACKAGES = ("recipe", "data_gen", "verl/verl_longrl")
HOW_TO_REACH_IT = (
    "RAY_ADDRESS=http://HEAD:8265, or HEAD:6379 from a node of the cluster; `bash scripts/ray/start.sh` starts one"
)
HOW_TO_GIVE_KEYS = (
    f"Where the job needs them: {secrets.FILE_VARIABLE}=PATH, of a file on a disk of the cluster with "
    f"{secrets.EXAMPLE}, mode "
    "600; or start the head's Ray with them in its environment"
)
THE_TOKEN = (
    "RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=FILE; on the hosts of a start.sh it is the file token in "
    "${TMPDIR:-/tmp}/longrl-ray-UID/PORT"
)
STOPPED = 128 + signal.SIGINT
RECONNECT_S, RECONNECT_FOR_S = 5.0, 600.0


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns the exit status: the job's, 130 if it was stopped, 2 if there was none."""
    arguments = sys.argv[1:] if arguments is None else arguments
    wait, given = "--no-wait" not in arguments, [a for a in arguments if a != "--no-wait"]
    module = given.pop(0) if given and is_module(given[0]) else TRAINING
    try:
        environment, left_out = runtime_env(os.environ), left_here(os.environ)
        command = entrypoint(module, given, os.environ)
        if secrets.redact(command) != command:
            raise worker_env.ForwardError(f"a key or a password is no part of a command: {secrets.redact(command)}")
        client = JobSubmissionClient()
        job = client.submit_job(entrypoint=command, runtime_env=environment)
    except (worker_env.ForwardError, secrets.SecretsError) as error:
        print(f"submit: {error}", file=sys.stderr)
        return 2
    except AuthenticationError as error:
        print(f"submit: {error.message}\nno job was submitted. Fix: {THE_TOKEN}", file=sys.stderr)
        return 2
    except (ConnectionError, RuntimeError) as error:
        print(f"submit: {error}\nno job was submitted. Fix: {HOW_TO_REACH_IT}", file=sys.stderr)
        return 2
    address = client.get_address()
    print(f"submit: {job} at {address}, carrying {', '.join(sorted(environment['env_vars']))}", flush=True)
    if left_out:
        print(f"submit: {', '.join(left_out)} stay here, for a job's variables are no secret. {HOW_TO_GIVE_KEYS}")
    if not wait:
        print(f"follow it:  ray job logs --follow --address {address} {job}")
        print(f"stop it:    ray job stop --no-wait --address {address} {job}   (saves a checkpoint first)")
        return 0
    return asyncio.run(follow(client, job))


def is_module(argument: str) -> bool:
    """Whether an argument is no override or flag but a module: recipe.longrl.curriculum."""
    return "=" not in argument and all(part.isidentifier() for part in argument.split("."))


def entrypoint(module: str, arguments: list[str], environment: Mapping[str, str]) -> str:
    """The job's command line: in the folder it is submitted from, the preflight and, if that passes, the module."""
    python = environment.get("LONGRL_JOB_PYTHON") or sys.executable
    folder = environment.get("LONGRL_JOB_DIR") or os.getcwd()
    steps = [["cd", folder], ["export", "RAY_DEDUP_LOGS=0"]]
    if module == TRAINING and environment.get("LONGRL_PREFLIGHT", "1") != "0":
        steps.append([python, "-m", "recipe.longrl.preflight", *arguments])
    steps.append(["exec", python, "-m", module, *arguments])
    return " && ".join(shlex.join(step) for step in steps)


def runtime_env(environment: Mapping[str, str]) -> dict[str, Any]:
    """The job's runtime environment: what is carried, time to save when it is stopped and, with LONGRL_SHIP=1, this
    checkout's packages. Raises ForwardError."""
    variables = worker_env.carried(environment).variables
    # Ray kills what it stops after 3 s, too soon for a checkpoint.
    variables["RAY_JOB_STOP_WAIT_TIME_S"] = environment.get("LONGRL_STOP_WAIT_S", "1800")
    shipped = environment.get("LONGRL_SHIP", "0") == "1"
    return {"env_vars": variables} | ({"py_modules": [str(ROOT / name) for name in PACKAGES]} if shipped else {})


def left_here(environment: Mapping[str, str]) -> list[str]:
    """The secrets that are set here and that the job will not have.

    Raises ForwardError when LONGRL_FORWARD_ENV asks for one of them, SecretsError when $LONGRL_SECRETS_FILE is here too
    and cannot be used.
    """
    place = Path(environment.get(secrets.FILE_VARIABLE, ""))
    given = secrets.read_file(place) if place.is_file() else {}
    missing = [name for name in worker_env.carried(environment).secrets if name not in given]
    if secrets.FILE_VARIABLE in environment and not given:  # on the cluster, and not to be seen from here
        return []
    if asked := [name for name in missing if name in worker_env.forwarded(environment)]:
        raise worker_env.ForwardError(f"{worker_env.FORWARD} names {', '.join(asked)}, a secret. {HOW_TO_GIVE_KEYS}")
    return missing


async def follow(client: JobSubmissionClient, job: str) -> int:
    """Print the job's log until it ends. The first Ctrl-C (or SIGTERM) stops the job, which saves first; the second
    leaves it alone. Returns the exit status."""
    log, stopping = asyncio.ensure_future(_print_log(client, job)), asyncio.Event()

    def interrupted() -> None:
        if stopping.is_set():
            log.cancel()
            return
        stopping.set()
        print(f"submit: stopping {job}, which saves first (Ctrl-C again: no longer wait for it)", file=sys.stderr)
        client.stop_job(job)

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, interrupted)
    try:
        await log
    except asyncio.CancelledError:
        print(f"submit: no longer waiting; `ray job status {job}` says how it stands", file=sys.stderr)
        return STOPPED
    return exit_status(client, job)


def exit_status(client: JobSubmissionClient, job: str) -> int:
    """Of a job that has ended: its own, 128 + signal if one ended it, 130 if it was stopped, 1 if it never ran."""
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
    """The job's log until the job has ended. A lost connection is tried again for RECONNECT_FOR_S, then raised."""
    printed, lost_at = 0, None
    while True:
        passed = 0  # Ray tells a log from its beginning each time
        try:
            async for text in client.tail_job_logs(job):
                print(secrets.redact(text[max(0, printed - passed) :]), end="", flush=True)
                passed, lost_at = passed + len(text), None
                printed = max(printed, passed)
            if client.get_job_status(job).is_terminal():
                return
        except (RuntimeError, OSError, aiohttp.ClientError) as error:
            lost_at = lost_at or time.monotonic()
            if time.monotonic() - lost_at > RECONNECT_FOR_S:
                raise
            print(f"submit: lost the log of {job} ({error}), trying again; the job goes on", file=sys.stderr)
        await asyncio.sleep(RECONNECT_S)


if __name__ == "__main__":
    sys.exit(main())
