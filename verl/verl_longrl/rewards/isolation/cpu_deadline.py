"""Run a function on a model's answer in a process that the kernel ends when it has used its CPU time.

A parser that a response can make endless never runs in the caller's process. Its deadline is CPU time, so a busy
machine does not make an answer wrong; a function that waits instead of computing is ended, too, later (`WAIT_S`). It
works in any thread and inside an event loop, where signals do not.

caller (`run`)                           helper (`_supervise`)            child (`_answer_calls`)
(function, arguments, seconds) -- pipe ------------------------------->  calls the function while a timer runs
                               <-- "result" or "raised" ---------------
                               <-- "ended" --  the kernel killed the child: forks the next one

One helper serves the process, one call at a time. It ends with its caller, because its pipe closes.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from verl_longrl import secrets

WAIT_S = 60.0
"""Seconds beyond its CPU time after which a function that waits instead of computing is ended, too."""
_MEMORY_BYTES = 4 << 30
_lock = threading.Lock()
_helper: Connection | None = None
_fork_helper = False


class CpuDeadlineError(Exception):
    """The function used up its CPU time or memory, or ended its process; the message says which."""


def run(function: Callable[..., Any], *arguments: Any, seconds: float) -> Any:
    """The result of `function(*arguments)`, a JSON value, computed within `seconds` of CPU time.

    function: importable by its name. Raises CpuDeadlineError when it takes longer, runs out of memory or ends its
    process, and RuntimeError for another exception or when the helper process is killed twice.
    """
    message = pickle.dumps((function, arguments, seconds, WAIT_S))
    with _lock:
        try:
            outcome, value = _exchange(message)
        except (EOFError, OSError):
            # It may have been killed before this call, for its memory or by mistake: that says nothing about the call.
            try:
                outcome, value = _exchange(message)
            except (EOFError, OSError) as error:
                raise RuntimeError("the helper process was killed, perhaps because memory ran out") from error
    if outcome == "result":
        return value
    if outcome == "raised":
        raise RuntimeError(value)
    raise CpuDeadlineError(value)


def _exchange(message: bytes) -> tuple[str, Any]:
    """Send a call to the helper, which is started if there is none, and wait for its reply."""
    global _helper
    if _helper is None:
        _helper = _fork() if _fork_helper else _start()
    try:
        _helper.send_bytes(message)
        outcome, value = json.loads(_helper.recv_bytes())
    except BaseException:
        # A reply that nobody waited for must not be taken for the next one.
        _helper.close()
        _helper = None
        raise
    return outcome, value


def fork_helpers() -> None:
    """Fork the helper from this process from now on, which takes milliseconds; the process must have one thread.

    By default the helper is a new interpreter, because a fork would copy locks that other threads hold.
    """
    global _fork_helper
    _fork_helper = True


def _start() -> Connection:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import serve; serve({theirs.fileno()})"],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={
                **secrets.without(os.environ),
                "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
                "OMP_NUM_THREADS": "1",
            },
        )
        return Connection(ours.detach())


def _fork() -> Connection:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        if os.fork() == 0:
            os.closerange(3, theirs.fileno())
            os.closerange(theirs.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
            _supervise(Connection(theirs.detach()))
            os._exit(0)
        return Connection(ours.detach())


def serve(descriptor: int) -> None:
    """Be the helper: confine this process, then serve calls from the socket until the caller closes it."""
    from verl_longrl.rewards.isolation.confinement import confine
    from verl_longrl.rewards.tasks.math import load_parser

    confine(network=False)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    load_parser()
    _supervise(Connection(descriptor))


def _supervise(connection: Connection) -> None:
    """Have a forked child answer calls until the caller closes the pipe; replace a child that the kernel killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        pid = os.fork()
        if pid == 0:
            _answer_calls(connection)
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        # SIGKILL comes from outside, perhaps between two calls: a reply now could be taken for that of the next call.
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) == signal.SIGKILL:
            return
        number = signal.Signals(os.WTERMSIG(status))
        slow = number in (signal.SIGPROF, signal.SIGALRM)
        problem = "took too long" if slow else f"ended its process ({number.name})"
        with contextlib.suppress(OSError):
            connection.send_bytes(json.dumps(("ended", problem)).encode())


def _answer_calls(connection: Connection) -> None:
    # The kernel's default action for these signals ends the process, also inside a computation in C.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    while True:
        try:
            function, arguments, seconds, wait = pickle.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, seconds + wait)
        try:
            reply = json.dumps(("result", function(*arguments)))
        except (MemoryError, RecursionError) as error:
            reply = json.dumps(("ended", f"needed too much memory ({type(error).__name__})"))
        except BaseException as error:  # noqa: BLE001  the boundary: the caller raises it
            reply = json.dumps(("raised", f"{type(error).__name__}: {error}"[:1000]))
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        connection.send_bytes(reply.encode())


def _forget_helper() -> None:
    """A forked copy of this process must not share the pipe."""
    global _helper, _lock
    _helper, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_helper)
