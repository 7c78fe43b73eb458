"""Start the fork server of the scorer processes, and ask it to fork and end workers.

trainer process                      fork server (`worker.py`)            worker (`worker.py`)
ForkServer(options)  -- Popen -->    imports rewards and scorers
                     <-- "ready" --
fork()               -- "fork", fd ->  os.fork()                  ------>  serves jobs from the fd
                     <-- pid ------
end(pid)             -- "end pid" -->  SIGKILL, waitpid
close()              -- EOF -------->  exits; the kernel ends its workers
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection

from verl_longrl import secrets
from verl_longrl.rewards.options import RewardOptions

_START_S = 120.0
"""How long the imports of the fork server may take, user scorers included."""


class ForkServer:
    """A process that has imported the rewards and the user's scorers, and forks a worker within milliseconds.

    Raises RuntimeError when a scorer module cannot be imported.
    """

    def __init__(self, options: RewardOptions):
        # SEQPACKET keeps the boundaries of messages, so one recv is one whole request or reply.
        self._control, child = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        settings = json.dumps(
            {
                "scorers": list(options.scorers),
                "memory_gib": options.worker_memory_gib,
                "network": options.scorer_network,
            }
        )
        environment = os.environ if options.scorer_network else secrets.without(os.environ)
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "verl_longrl.rewards.isolation.worker",
                str(child.fileno()),
                "longrl-scorer",
                settings,
            ],
            pass_fds=[child.fileno()],
            stdin=subprocess.DEVNULL,
            env={
                **environment,
                "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path),
                "OMP_NUM_THREADS": "1",
            },
        )
        # This process must not hold the child's end open: its closing is how a dead server is noticed.
        child.close()
        self._control.settimeout(_START_S)
        try:
            reply = self._control.recv(4096).decode()
        except TimeoutError:
            reply = f"importing {', '.join(options.scorers) or 'the rewards'} took longer than {_START_S:g} s"
        if reply != "ready":
            self.close()
            raise RuntimeError(f"the scorer processes cannot start: {reply or 'they died; see the log above'}")

    def fork(self) -> ScorerWorker:
        """Fork a new worker. Raises OSError when the server is gone."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            socket.send_fds(self._control, [b"fork"], [theirs.fileno()])
            pid = self._control.recv(64)
            if not pid:
                raise ConnectionResetError("the fork server of the scorers died")
            return ScorerWorker(int(pid), Connection(ours.detach()), self)

    def end(self, pid: int) -> None:
        """Kill a worker. Raises OSError when the server is gone."""
        self._control.send(b"end %d" % pid)

    def close(self) -> None:
        """End the server and with it every worker."""
        self._control.close()
        try:
            self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclass(eq=False)
class ScorerWorker:
    """One scorer process: jobs are sent to and results read from its `connection`."""

    pid: int
    connection: Connection
    server: ForkServer
