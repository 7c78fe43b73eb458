"""`python -m recipe.longrl.evaluation.serve COMMAND...`: run a server for as long as the parent process lives.

The parent holds the other end of this process's standard input. When the parent closes it, or is killed in any way,
the input ends, and the server is ended with all processes of its group. Otherwise a killed evaluation would leave an
engine behind that keeps its GPUs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

GRACE_S = 10.0


def main() -> None:
    """Exits with the status of the command."""
    server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=_end_with_parent, args=(server,), daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _end_group(server))
    status = server.wait()
    # Children of a server that has crashed may still be running.
    _signal_group(server, signal.SIGKILL)
    sys.exit(status if status >= 0 else 128 - status)


def _end_with_parent(server: subprocess.Popen[bytes]) -> None:
    while os.read(0, 4096):
        pass
    _end_group(server)


def _end_group(server: subprocess.Popen[bytes]) -> None:
    _signal_group(server, signal.SIGTERM)
    killer = threading.Timer(GRACE_S, _signal_group, (server, signal.SIGKILL))
    killer.daemon = True
    killer.start()


def _signal_group(server: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(server.pid, number)


if __name__ == "__main__":
    main()
