"""Start processes with the slow imports already done, by forking one process that imported once.

A run on one machine without GPUs is a dozen processes (task runner, trainer ranks, vLLM servers and engines, reward
and agent loop workers). Each imports torch, transformers and vLLM, 4 to 12 seconds of CPU, and on two cores that was
most of the start time. Here one process, the zygote (Android's and Chromium's word for it), imports them, and the
others are forked from it.

A program calls `Zygote.executable` instead of `python`: Ray through `runtime_env.py_executable`, multiprocessing
(vLLM's engines) through `set_executable`. The steps are

1. The program starts `executable`, a shell script that runs `zygote_client.py`.
2. The client sends its arguments, environment, directory and file descriptors to the zygote over a Unix socket.
3. The zygote forks, and the fork takes all of these over and runs the arguments (`become`).
4. The client forwards signals to the fork and exits with its status, so the program sees an ordinary child process.

Where a fork would differ from a new Python (the zygote is gone, or a variable has another value than during the
imports) the client becomes a new Python, which is slower and never different.

Only for the CPU platform: a process that has used CUDA cannot be forked.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import importlib
import json
import multiprocessing
import os
import runpy
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

OOM_SCORE_ADJ = Path("/proc/self/oom_score_adj")
CLIENT = Path(__file__).with_name("zygote_client.py")
MODULES = (
    "torch._inductor.lowering",
    "torch.distributed.fsdp",
    "tensordict",
    "transformers.generation.candidate_generator",
    "transformers.models.auto.modeling_auto",
    "torchdata.stateful_dataloader",
    "datasets",
    "peft",
    "vllm.entrypoints.openai.api_server",
    "vllm.v1.worker.cpu_worker",
    "vllm.model_executor.models.qwen3",
)
"""The modules of a run's processes that take longest to import. Ray is not among them, nor modules that import it
(verl, a part of vLLM): its library reads the identity of the process once, while it is loaded."""
OF_A_SHELL = ("PWD", "OLDPWD", "SHLVL", "_")
"""Variables that a shell between the program and the client sets."""
_PR_SET_PDEATHSIG = 1


class Zygote:
    """Starts the zygote, which imports `modules` in the background; `close` ends it and all of its forks.

    environment: the variables during the imports, which forks must have as well. `executable` is used like python.
    """

    def __init__(self, environment: Mapping[str, str], modules: Sequence[str] = MODULES) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="longrl-zygote-"))
        self.executable, self.log = self._folder / "python", self._folder / "log"
        address = str(self._folder / "socket")
        client = shlex.join([sys.executable, "-I", "-S", str(CLIENT), address, sys.executable])
        self.executable.write_text(f'#!/bin/sh\nexec {client} "$@"\n')
        self.executable.chmod(0o700)
        with self.log.open("w") as log, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen(128)
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(listener.fileno()), str(self.executable), *modules],
                stdin=subprocess.PIPE,  # the kernel closes it when this process ends, which ends the zygote
                stdout=log,
                stderr=log,
                env={**environment},
                pass_fds=[listener.fileno()],
                start_new_session=True,  # Ctrl-C reaches this process only, which then closes the zygote
            )

    def close(self) -> None:
        """Kill the zygote and the forks that are still there."""
        assert self._process.stdin is not None
        if self._process.poll() is not None:
            print(f"the zygote ended by itself, with status {self._process.returncode}:", file=sys.stderr)
            print(self.log.read_text(errors="replace")[-4000:], file=sys.stderr, flush=True)
        self._process.stdin.close()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ForkRequest(NamedTuple):
    """A request to run `python arguments` with these variables, in this directory, with these signals blocked.

    group: the client's process group, or 0 if it leads one. niceness, oom_score_adj: as Ray sets them for its workers.
    descriptors: the numbers that the file descriptors sent with the request must have in the fork.
    """

    arguments: list[str]
    environment: dict[str, str]
    directory: str
    blocked: list[int]
    group: int
    niceness: int
    oom_score_adj: str
    descriptors: list[int]


@dataclass(frozen=True)
class _Fork:
    pid: int
    pidfd: int


def serve(listener: socket.socket, environment: Mapping[str, str]) -> tuple[ForkRequest, list[int]]:
    """Fork for each request.

    Returns only in forks, with the request and its file descriptors as received. In the zygote it ends the process when
    standard input closes, and all forks with it.
    """
    zygote = os.getpid()
    forks: dict[socket.socket, _Fork] = {}  # by their client's connection
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            source: Any = key.fileobj
            if source is sys.stdin:
                os._exit(0)
            if source in forks:
                _forward_signals(source, forks[source], selector)
            elif key.data is not None:  # a pidfd is readable once the fork has ended
                _report(key.data, forks.pop(key.data), selector)
            elif source is listener:
                client, _ = listener.accept()
                request, received = _receive(client)
                if request is None or _refused(request, environment):
                    client.close()  # the client then becomes a new Python
                    _close(received)
                    continue
                pid = os.fork()
                if pid == 0:
                    # The fork keeps only its own descriptors: an inherited connection would keep other clients waiting.
                    selector.close()
                    for other in (listener, client, *forks):
                        other.close()
                    _close([fork.pidfd for fork in forks.values()])
                    _die_with(zygote)
                    return request, received
                _close(received)
                forks[client] = fork = _Fork(pid, os.pidfd_open(pid))
                # Any byte tells the client that it has a fork. One that is gone is noticed when its connection is read.
                with contextlib.suppress(OSError):
                    client.send(b"f")
                selector.register(client, selectors.EVENT_READ)
                selector.register(fork.pidfd, selectors.EVENT_READ, client)


def _receive(client: socket.socket) -> tuple[ForkRequest | None, list[int]]:
    """A request and its file descriptors. Without a request if the client went away."""
    received: list[int] = []
    client.settimeout(10)
    try:
        head, received, _, _ = socket.recv_fds(client, 8, 250)
        size, body = int.from_bytes(head, "big"), b""
        while len(body) < size and (more := client.recv(size - len(body))):
            body += more
        return ForkRequest(**json.loads(body)), list(received)
    except (OSError, ValueError):
        return None, list(received)
    finally:
        client.settimeout(None)


def _refused(request: ForkRequest, environment: Mapping[str, str]) -> bool:
    """Whether a new Python would run this differently from a fork: with other options, or with another value of a
    variable that was set during the imports. Additional variables do no harm: Ray, verl and vLLM set some for a single
    process."""
    # multiprocessing repeats the interpreter's own options (-I, -W, ...), which a fork has already.
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    if request.arguments[: len(flags)] == flags:
        del request.arguments[: len(flags)]
    differing = [option for option in request.arguments[:1] if option.startswith("-") and option not in ("-c", "-m")]
    per_process = {name for name in environment if name.startswith("RAY_") or name in OF_A_SHELL}
    for name in environment.keys() - per_process:
        if request.environment.get(name) != environment[name]:
            differing.append(name)
    if differing:
        print("starting a new Python, because these differ:", *differing, file=sys.stderr, flush=True)
    return bool(differing or not request.arguments)


def _forward_signals(client: socket.socket, fork: _Fork, selector: selectors.BaseSelector) -> None:
    """Send the fork the signals that its client received. If the client was killed, kill the fork."""
    try:
        signals = list(client.recv(64))
    except OSError:
        signals = []
    if not signals:
        selector.unregister(client)
    for number in signals or [signal.SIGKILL]:
        signal.pidfd_send_signal(fork.pidfd, number)


def _report(client: socket.socket, fork: _Fork, selector: selectors.BaseSelector) -> None:
    """Tell a client how its fork ended."""
    _, status = os.waitpid(fork.pid, 0)
    selector.unregister(fork.pidfd)
    os.close(fork.pidfd)
    with contextlib.suppress(KeyError):  # it is unregistered already if the client was killed
        selector.unregister(client)
    with contextlib.suppress(OSError):
        client.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))
    client.close()


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _die_with(parent: int) -> None:
    """Let the kernel kill this process when its parent ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have ended before the call.
    if os.getppid() != parent:
        os._exit(1)


def become(request: ForkRequest, received: list[int], executable: str) -> None:
    """Turn this fork into the process that `python request.arguments` would have been, and run it."""
    try:
        os.setpgid(0, request.group)
    except PermissionError:  # a group of another session
        os.setpgid(0, 0)
    os.setpriority(os.PRIO_PROCESS, 0, request.niceness)
    with contextlib.suppress(PermissionError):  # lowering it needs a privilege
        OOM_SCORE_ADJ.write_text(request.oom_score_adj)
    _renumber(received, request.descriptors)
    os.chdir(request.directory)
    for name in os.environ.keys() - request.environment.keys():
        del os.environ[name]
    # Only differing variables are set: setproctitle finds the memory of the title next to the initial variables, and
    # setting one moves it.
    os.environ.update(dict(request.environment.items() - os.environ.items()))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, request.blocked)
    multiprocessing.set_executable(executable)
    if "numpy" in sys.modules:
        # Python reseeds its own generator after a fork, and torch's has the same seed in every new process.
        sys.modules["numpy"].random.seed()
    main = types.ModuleType("__main__")
    first, *rest = request.arguments
    sys.modules["__main__"] = main
    if first == "-m":
        sys.argv, sys.path[0] = ["-m", *rest[1:]], request.directory
        runpy._run_module_as_main(rest[0])  # type: ignore[attr-defined]
    elif first == "-c":
        sys.argv, sys.path[0] = ["-c", *rest[1:]], ""
        exec(compile(rest[0], "<string>", "exec"), main.__dict__)
    else:
        sys.argv, sys.path[0] = request.arguments, os.path.dirname(os.path.abspath(first))
        main.__file__ = os.path.abspath(first)
        exec(compile(Path(first).read_bytes(), first, "exec"), main.__dict__)


def _renumber(received: list[int], numbers: list[int]) -> None:
    """Give the received descriptors the given numbers."""
    # First move them above all of the numbers, so that no dup2 below closes one that is still needed.
    beyond = max(numbers, default=0) + 1
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, beyond) for descriptor in received]
    _close(received)
    for descriptor, number in zip(moved, numbers, strict=True):
        os.dup2(descriptor, number)
    _close(moved)


def main(argv: list[str]) -> None:
    """`python -m verl_longrl.platform.zygote LISTENER EXECUTABLE MODULE...`; LISTENER is a file descriptor."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listener, environment = socket.socket(fileno=int(argv[1])), dict(os.environ)
    for module in argv[3:]:
        importlib.import_module(module)
    if "ray" in sys.modules:
        sys.exit("Ray was imported and has read the identity of this process, which its forks would share")
    gc.freeze()  # the garbage collector then does not write to these objects, so forks share their pages
    request, received = serve(listener, environment)
    become(request, received, argv[2])


if __name__ == "__main__":
    main(sys.argv)
