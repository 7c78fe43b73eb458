"""End a run as interrupted when Ray's control store (the GCS on the head node) is lost.

Ray itself would kill every process after a minute, including the command, which would exit with status 1 without
cleaning up. So the command polls the store and raises an error before that.
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
"""For a Ray that the run started itself, whose store nobody restarts."""
OF_RAYS_PATIENCE = 0.75
"""For a cluster, whose store may be restarted: this share of the time after which Ray kills everything."""
RAYS_PATIENCE_S = "RAY_gcs_rpc_server_reconnect_timeout_s", 60.0
"""The variable with that time in seconds, and Ray's default."""
WAKING = signal.SIGUSR2
"""Used only within this process, to interrupt the main thread while it waits."""


class ControlStoreLost(RuntimeError):
    """Ray's control store is gone; the message has its address."""


class _Woken(KeyboardInterrupt):
    """Raised by the signal handler. ray.get lets only KeyboardInterrupt through."""


@contextmanager
def watch_control_store() -> Iterator[None]:
    """While it lasts, raise ControlStoreLost in the main thread when the control store is lost after Ray has started.

    Must be called in the main thread.
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
    """Wait until the store is lost and return a message, or None when `done` is set first."""
    last_reached = time.monotonic()
    while not done.wait(LOOK_EVERY_S):
        store = _address_and_patience()
        if store is None or _reachable(store[0]):
            last_reached = time.monotonic()
        elif time.monotonic() - last_reached >= store[1]:
            return f"Ray's control store (gcs_server at {store[0]}) is gone"
    return None


def _address_and_patience() -> tuple[str, float] | None:
    """The store's address and the patience in seconds, once this process has joined or started Ray; None before."""
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
