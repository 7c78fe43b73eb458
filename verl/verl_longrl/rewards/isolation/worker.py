"""The processes in which scorers run: one template with everything imported, and forks of it.

`python -m verl_longrl.rewards.isolation.worker FD longrl-scorer SETTINGS` imports the rewards and the user's scorers
once, then forks a worker for every "fork" request on its control socket. A fork takes milliseconds where a new
interpreter with sympy takes a second, so killing a worker is cheap. As a program of its own, the template imports
neither the caller's `__main__` nor Ray. Workers die with the template (PR_SET_PDEATHSIG), and the template ends when
its control socket closes, so no process outlives a killed trainer, not even a worker that hangs.

The scored texts may come from anywhere: the environment has no secrets and there is no network (`confinement.py`), and
results leave as JSON, which runs no code where it is read.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import pickle
import resource
import signal
import socket
import sys
from multiprocessing.connection import Connection

from verl_longrl.rewards import Score, load_scorers
from verl_longrl.rewards.isolation import cpu_deadline
from verl_longrl.rewards.isolation.confinement import confine
from verl_longrl.rewards.score import scores_to_json
from verl_longrl.rewards.scoring import score_for_each_verdict
from verl_longrl.rewards.tasks.math import load_parser

_PR_SET_PDEATHSIG = 1


def serve_jobs(connection: Connection, memory_gib: float) -> None:
    """Score jobs from `connection` until it closes: a pickled `Job` in, the scores of each verdict out as JSON."""
    # This process has one thread and math-verify in its memory.
    cpu_deadline.fork_helpers()
    limit = int(memory_gib * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while True:
        try:
            message = connection.recv_bytes()
        except EOFError:
            return
        try:
            answer = scores_to_json(score_for_each_verdict(pickle.loads(message)))
        except Exception as error:  # noqa: BLE001  pickling runs code of the values' classes
            reason = f"sample or score cannot be sent between processes: {type(error).__name__}: {error}"
            answer = scores_to_json((Score(0.0, {}, "scorer_error", reason),))
        connection.send_bytes(answer)


def serve_forks(control: socket.socket, memory_gib: float) -> None:
    """Serve the requests "fork" (with a file descriptor; the reply is a pid) and "end PID" until the socket closes."""
    ending: set[int] = set()
    template_pid = os.getpid()
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 64, 1)
        if not message:
            return
        if message == b"fork":
            pid = os.fork()
            if pid == 0:
                control.close()
                _die_with(template_pid)
                serve_jobs(Connection(descriptors[0]), memory_gib)
                os._exit(0)
            os.close(descriptors[0])
            control.send(str(pid).encode())
        else:
            # Only this process reaps its workers, so the pid that it is asked to end cannot have been reused.
            pid = int(message.removeprefix(b"end "))
            os.kill(pid, signal.SIGKILL)
            ending.add(pid)
        ending = {pid for pid in ending if os.waitpid(pid, os.WNOHANG)[0] == 0}


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends. The parent may have ended before the call."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def main(argv: list[str]) -> int:
    """Load the scorers, report "ready" or the problem, then serve as the template."""
    # Ctrl-C is for the trainer, which then closes the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control, settings = socket.socket(fileno=int(argv[1])), json.loads(argv[3])
    confine(settings["network"])
    try:
        load_scorers(settings["scorers"])
    except Exception as error:  # noqa: BLE001  reported to the caller, who raises it
        control.send(f"{type(error).__name__}: {error}"[:4000].encode())
        return 1
    # Once here instead of in every worker that meets a formula.
    load_parser()
    # Objects that the garbage collector does not touch stay in pages that are shared with the forks.
    gc.freeze()
    control.send(b"ready")
    serve_forks(control, settings["memory_gib"])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
