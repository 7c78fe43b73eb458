"""Processes that start with the slow imports done: forks of one process that imported once.

A run on one machine without GPUs is a dozen processes (task runner, trainer ranks, vLLM servers and engines, reward
and agent loop workers). Each imports torch, transformers and vLLM, 4 to 12 seconds of CPU, and on two cores that was
most of a start. Here one process, the zygote (Android's and Chromium's word for it), imports them, and the others are
forked from it.

A program that wants a process calls `Zygote.executable` in the place of `python`: Ray through
`runtime_env.py_executable`, multiprocessing (vLLM's engines) through `set_executable`. Behind it is `zygote_client.py`,
which hands its arguments, environment, directory and file descriptors over a Unix socket, forwards signals, and ends as
the fork ends, so its parent sees an ordinary child. Where a fork would not be the same as a new Python (the zygote is
gone, or a variable differs that was set during the imports), the client becomes a new Python: slower, never different.

For the CPU platform alone: a process that has talked to CUDA cannot be forked.
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
"""The slowest to import of what a run's processes import. Ray is not among them, nor what imports it (verl, a part of
vLLM): its library reads who the process is while it is loaded, and never again."""
OF_A_SHELL = ("PWD", "OLDPWD", "SHLVL", "_")
"""Variables that a shell on the way to the client sets by itself."""
_PR_SET_PDEATHSIG = 1


class Zygote:
    """Starts the zygote, which imports `modules` in the background; `close` ends it and all that was forked.

    environment: what forks must have, and modules find while they are imported. `executable` stands for python.
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
                stdin=subprocess.PIPE,  # closed when this process ends, however it ends
                stdout=log,
                stderr=log,
                env={**environment},
                pass_fds=[listener.fileno()],
                start_new_session=True,  # Ctrl-C is for this process, which then closes
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


class Request(NamedTuple):
    """`python arguments`, with these variables, in this directory, with these signals blocked. `group`: the client's
    process group, or 0 where it leads one. `niceness`, `oom_score_adj`: as Ray gives its workers. `descriptors`: the
    numbers that the file descriptors sent along are to have."""

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


def serve(listener: socket.socket, environment: Mapping[str, str]) -> tuple[Request, list[int]]:
    """Fork for each request. Returns in forks alone, with the request and its file descriptors as received. Ends the
    process when standard input closes, and all forks with it."""
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
            elif key.data is not None:  # a pidfd: the fork has ended
                _report(key.data, forks.pop(key.data), selector)
            elif source is listener:
                client, _ = listener.accept()
                request, received = _receive(client)
                if request is None or _refused(request, environment):
                    client.close()  # it then becomes a new Python
                    received = _closed(received)
                    continue
                pid = os.fork()
                if pid == 0:
                    selector.close()
                    for other in (listener, client, *forks):
                        other.close()
                    _closed([fork.pidfd for fork in forks.values()])
                    _die_with(zygote)
                    return request, received
                _closed(received)
                forks[client] = fork = _Fork(pid, os.pidfd_open(pid))
                with contextlib.suppress(OSError):  # a client that is gone is seen when its connection is read
                    client.send(b"f")
                selector.register(client, selectors.EVENT_READ)
                selector.register(fork.pidfd, selectors.EVENT_READ, client)


def _receive(client: socket.socket) -> tuple[Request | None, list[int]]:
    """A request and its file descriptors; no request from a client that went away."""
    received: list[int] = []
    client.settimeout(10)
    try:
        head, received, _, _ = socket.recv_fds(client, 8, 250)
        size, body = int.from_bytes(head, "big"), b""
        while len(body) < size and (more := client.recv(size - len(body))):
            body += more
        return Request(**json.loads(body)), list(received)
    except (OSError, ValueError):
        return None, list(received)
    finally:
        client.settimeout(None)


def _refused(request: Request, own: Mapping[str, str]) -> bool:
    """Whether a new Python would run this differently from a fork: with other options, or with another value of a
    variable that was set during the imports. Variables that are new are what Ray, verl and vLLM tell one process."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    if request.arguments[: len(flags)] == flags:
        del request.arguments[: len(flags)]
    differing = [option for option in request.arguments[:1] if option.startswith("-") and option not in ("-c", "-m")]
    of_the_process = {name for name in own if name.startswith("RAY_") or name in OF_A_SHELL}
    differing += [name for name in own.keys() - of_the_process if request.environment.get(name) != own[name]]
    if differing:
        print("a new Python, for these differ:", *differing, file=sys.stderr, flush=True)
    return bool(differing or not request.arguments)


def _forward_signals(client: socket.socket, fork: _Fork, selector: selectors.BaseSelector) -> None:
    """Send the fork what its client got. A client that was killed takes its fork along."""
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
    with contextlib.suppress(KeyError):  # a client that was killed
        selector.unregister(client)
    with contextlib.suppress(OSError):
        client.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))
    client.close()


def _closed(descriptors: list[int]) -> list[int]:
    for descriptor in descriptors:
        os.close(descriptor)
    return []


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, which it may have done before we could ask."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def become(request: Request, received: list[int], executable: str) -> None:
    """Run in this process what `python request.arguments` would run in its own."""
    try:
        os.setpgid(0, request.group)
    except PermissionError:  # one of another session
        os.setpgid(0, 0)
    os.setpriority(os.PRIO_PROCESS, 0, request.niceness)
    with contextlib.suppress(PermissionError):  # to lower it takes a privilege
        OOM_SCORE_ADJ.write_text(request.oom_score_adj)
    _number(received, request.descriptors)
    os.chdir(request.directory)
    for name in os.environ.keys() - request.environment.keys():
        del os.environ[name]
    # only what differs: what sets a process's title looks for its place in memory beside the variables it began with
    os.environ.update(dict(request.environment.items() - os.environ.items()))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, request.blocked)
    multiprocessing.set_executable(executable)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()  # Python reseeds its own generator; torch's starts alike in every process
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


def _number(received: list[int], numbers: list[int]) -> None:
    """Give the received descriptors their numbers, whichever they have now."""
    beyond = max(numbers, default=0) + 1
    aside = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, beyond) for descriptor in received]
    _closed(received)
    for descriptor, number in zip(aside, numbers, strict=True):
        os.dup2(descriptor, number)
    _closed(aside)


def main(argv: list[str]) -> None:
    """`python -m verl_longrl.platform.zygote LISTENER EXECUTABLE MODULE...`; LISTENER is a file descriptor."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listener, environment = socket.socket(fileno=int(argv[1])), dict(os.environ)
    for module in argv[3:]:
        importlib.import_module(module)
    if "ray" in sys.modules:
        sys.exit("Ray was imported, and with it who this process is; its forks could be nobody else")
    gc.freeze()  # keeps pages shared after a fork
    request, received = serve(listener, environment)
    become(request, received, argv[2])


if __name__ == "__main__":
    main(sys.argv)
