"""Run a command with a time limit that holds even when the command cannot be killed.

`subprocess.run` waits for a killed child without a limit, and a process that hangs inside a driver does not die.
"""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence


def run_command(command: Sequence[str], seconds: float, environment: Mapping[str, str] | None = None) -> str:
    """The standard output of the command and the processes it starts.

    Raises:
        OSError: it cannot be started.
        subprocess.TimeoutExpired: it has not ended after `seconds`. It is killed, and not waited for.
        subprocess.CalledProcessError: its exit status is not 0; `output` and `stderr` of the error say why.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
        env=None if environment is None else dict(environment),
    )
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output, errors)
    return output
