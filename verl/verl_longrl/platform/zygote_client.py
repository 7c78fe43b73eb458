"""Called instead of `python`: asks the zygote (zygote.py) to fork a process that runs the arguments.

`python -I -S zygote_client.py SOCKET PYTHON arguments...`. Becomes PYTHON if the zygote is gone or refuses. Imports
only the standard library, because it starts once per process.
"""

import contextlib
import json
import os
import signal
import socket
import sys

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def main(address: str, python: str, arguments: list[str]) -> None:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    zygote = request_fork(address, arguments, blocked)
    if zygote is None:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.execv(python, [python, *arguments])
    for number in FORWARDED:
        signal.signal(number, lambda number, _: zygote.send(bytes([number])))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    status = zygote.recv(4, socket.MSG_WAITALL)
    if len(status) < 4:
        os._exit(1)  # the zygote was killed, and its forks with it
    code = int.from_bytes(status, "big", signed=True)
    if code < 0:
        with contextlib.suppress(OSError):  # fails for SIGKILL, which cannot be handled anyway
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def request_fork(address: str, arguments: list[str], blocked: set[int | signal.Signals]) -> socket.socket | None:
    """A connection to the zygote after it has forked; None if it is gone or refuses."""
    descriptors = []
    for number in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):  # the descriptor of the listing itself
            os.fstat(number)
            descriptors.append(number)
    with open("/proc/self/oom_score_adj") as file:
        oom_score_adj = file.read()
    request = {
        "arguments": arguments,
        "environment": dict(os.environ),
        "directory": os.getcwd(),
        "blocked": sorted(blocked),
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "oom_score_adj": oom_score_adj,
        "group": 0 if os.getpgrp() == os.getpid() else os.getpgrp(),
        "descriptors": descriptors,
    }
    body = json.dumps(request).encode()
    zygote = socket.socket(socket.AF_UNIX)
    try:
        zygote.connect(address)
        socket.send_fds(zygote, [len(body).to_bytes(8, "big")], descriptors)
        zygote.sendall(body)
        return zygote if zygote.recv(1) else None
    except OSError:
        return None


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
