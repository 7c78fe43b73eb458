"""A command with a time limit that holds even when the command cannot be killed.

`subprocess.run` waits for a killed child without a limit, and a process that hangs inside a driver does not die.
"""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence


def output(command: Sequence[str], seconds: float, environment: Mapping[str, str] | None = None) -> str:
    """What the command prints on its standard output, with the children it starts.

    Raises:
        OSError: it cannot be started.
        subprocess.TimeoutExpired: it has not ended after `seconds`; it was told to die and is not waited for.
        subprocess.CalledProcessError: it ended with another status than 0; its `output` and `stderr` say why.
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
        printed, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, printed, errors)
    return printed
