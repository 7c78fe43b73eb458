"""A run whose Ray control store (the GCS, on the head node) is gone ends as an interruption.

Ray's own answer is to end every process after a minute, the command too, with status 1 and nothing tidied up. Here the
command looks whether the store can still be reached, and ends its wait for the training itself.
"""

import _thread
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

LOOK_EVERY_S = 1.0
ANSWERS_WITHIN_S = 5.0
OWN_IS_BACK_WITHIN_S = 3.0
"""Of a Ray that the run started itself: nobody starts its store again."""
OF_RAYS_PATIENCE = 0.75
"""Of a cluster's store, which may be started again elsewhere: this part of the time after which Ray ends everything."""
RAYS_PATIENCE_S = "RAY_gcs_rpc_server_reconnect_timeout_s", 60.0
"""The variable with that time, and Ray's default."""
WAKING = signal.SIGUSR2
"""Never sent by anybody else: it takes the main thread out of its wait within this process."""


class ControlStoreLost(RuntimeError):
    """The message says which one."""


class _Woken(KeyboardInterrupt):
    """The only kind of exception that ray.get lets through from a signal's handler."""


@contextmanager
def watched() -> Iterator[None]:
    """While it lasts, once Ray is up, the main thread gets ControlStoreLost when the control store is gone.

    Only for the main thread.
    """
    done = threading.Event()
    lost: list[str] = []

    def watch() -> None:
        if (message := _until_lost(done)) is not None:
            lost.append(message)
            _thread.interrupt_main(WAKING)

    def wake(number: int, frame: FrameType | None) -> None:
        if lost and not done.is_set():
            raise _Woken

    before = signal.signal(WAKING, wake)
    watcher = threading.Thread(target=watch, name="control-store", daemon=True)
    watcher.start()
    try:
        yield
    except KeyboardInterrupt:
        if not lost:
            raise
        raise ControlStoreLost(lost[0]) from None
    finally:
        done.set()
        watcher.join()
        signal.signal(WAKING, before)


def _until_lost(done: threading.Event) -> str | None:
    """Why the store is taken for lost, once it is; None when `done` comes first."""
    seen = time.monotonic()
    while not done.wait(LOOK_EVERY_S):
        store = _address_and_patience()
        if store is None or _reachable(store[0]):
            seen = time.monotonic()
        elif time.monotonic() - seen >= store[1]:
            return f"Ray's control store (gcs_server at {store[0]}) is gone"
    return None


def _address_and_patience() -> tuple[str, float] | None:
    """Of the Ray that this process has joined or started; None before."""
    import ray
    from ray._private.worker import global_worker

    if not ray.is_initialized() or global_worker.node is None:
        return None
    name, default = RAYS_PATIENCE_S
    cluster_s = OF_RAYS_PATIENCE * float(os.environ.get(name, default))
    return global_worker.node.gcs_address, OWN_IS_BACK_WITHIN_S if global_worker.node.is_head() else cluster_s


def _reachable(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWERS_WITHIN_S).close()
    except OSError:
        return False
    return True
