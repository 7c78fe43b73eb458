"""Run the project's own commands as a user would, with their output in a file."""

import os
import subprocess
import sys
from pathlib import Path


def run(log: Path, module: str, *arguments: str, threads: int = 1) -> None:
    """`python -m module arguments...`, its output appended to `log`. Exits where the command fails.

    threads: of numerical libraries, where the command does not set them for its workers.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as output:
        command = [sys.executable, "-m", module, *arguments]
        done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, env=environment, check=False)
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        sys.exit(f"python -m {module}: ended with status {done.returncode}; see {log}, which ends with\n{tail}")
