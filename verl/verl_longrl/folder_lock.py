"""One process works in a folder: a lock file that names its owner and that the owner writes to while it lives.

    FOLDER/.lock-7     {"id": "...", "host": "node3", "pid": 4211, ...}
                       000000000042      the heartbeat, counted up every BEAT_S seconds

Kernel locks (flock) do not hold on every network file system; a file that is made only where there is none (O_EXCL)
does. Whether an owner lives the system knows of a process of its own. Any other is watched: a heartbeat that changes is
alive, one that stays the same for MISSED beats is not. Clocks of two machines are never compared.

An owner that is gone is succeeded under the next number, which only one can make, and which removes those before it.
Who has made a lock looks once more, and steps back from a lock that it has not seen dead. An owner that was frozen (a
suspended machine, a disk that hung) may wake up and find its lock gone. It must write nothing more: the process that
beats is ended (`hold_folders`), and others that write for it look for themselves (`Claim`).
"""

import json
import os
import random
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from verl_longrl.data.jsonl import is_disk_full

NAME = ".lock"
BEAT_S, MISSED = 15.0, 3
"""Seconds between two beats, and how many of them a living owner on another machine may miss."""
LOOK_S = 1.0
"""Between two looks at the heartbeat of another."""
TAKEN_OVER = 1
"""Exit status of a process whose lock was taken over."""
_DIGITS = 12


class FolderInUse(RuntimeError):
    """Another process works in the folder; the message names both."""


class FolderTakenOver(RuntimeError):
    """The folder is another process's by now, so this one must not write there any more."""


@dataclass(frozen=True)
class Owner:
    """Who holds a lock. started: of the process, in the system's clock ticks. kernel: the running system, and the pids
    of it that it sees; both are empty where they cannot be told. since: for people."""

    id: str
    host: str
    pid: int
    started: str
    kernel: str
    slurm_job: str | None
    since: str

    @staticmethod
    def this_process() -> "Owner":
        return Owner(
            id=secrets.token_hex(8),
            host=socket.gethostname(),
            pid=os.getpid(),
            started=_started(os.getpid()) or "",
            kernel=_kernel(),
            slurm_job=os.environ.get("SLURM_JOB_ID"),
            since=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        )

    def __str__(self) -> str:
        job = f", Slurm job {self.slurm_job}" if self.slurm_job else ""
        return f"process {self.pid} on {self.host}{job}, since {self.since}"

    def lives(self) -> bool | None:
        """Whether its process runs; None where only its heartbeat can tell."""
        if not self.kernel or self.kernel != _kernel():
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        started = _started(self.pid)
        return None if started is None else started == self.started

    def is_this_process(self) -> bool:
        return self.pid == os.getpid() and self.lives() is True


@contextmanager
def hold_folders(
    folders: Iterable[Path], name: str = NAME, on_taken_over: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Hold these folders during the block. They are made if need be; what was made and is empty then is removed.

    on_taken_over: called, in another thread, with what happened when a lock was lost; by default this process ends at
    once. Waits for up to MISSED beats where an owner on another machine may be dead. Raises FolderInUse, and OSError
    where a folder cannot be written to.
    """
    over, lost = threading.Event(), on_taken_over or _end
    with ExitStack() as stack:
        locks = [stack.enter_context(_hold_folder(folder, name)) for folder in _different(folders)]

        def beat() -> None:
            while not over.wait(BEAT_S):
                for lock in locks:
                    try:
                        lock.beat()
                    except FolderTakenOver as error:
                        return lost(str(error))
                    except OSError:  # a full disk, a server that is away: perhaps the next one gets through
                        continue

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(BEAT_S)


def find_holder(folder: Path, name: str = NAME) -> Owner | None:
    """Who holds a folder, as far as can be told at once: not a process that is known to be dead."""
    found = _find_holder(folder, name)
    return found[1] if found else None


class Claim:
    """That a folder is still held as it was at the beginning, for processes that write there for its holder."""

    def __init__(self, folder: Path, name: str = NAME) -> None:
        self._found = _find_holder(folder, name)

    def require(self) -> None:
        """Raises FolderTakenOver unless the lock is as it was. A folder that nobody held is anybody's."""
        if self._found is not None:
            path, owner = self._found
            try:
                now = _owner(path.read_bytes())
            except FileNotFoundError:
                now = None
            except OSError:  # a server that is away has given the folder to nobody
                return
            if now is None or now.id != owner.id:
                raise _taken_over(path)


class _Lock:
    """The lock file of this process at `path`."""

    def __init__(self, path: Path) -> None:
        self.path, self._beats = path, 0
        self._head = (json.dumps(asdict(Owner.this_process())) + "\n").encode()

    def beat(self) -> None:
        """Raises FolderTakenOver where the file is not this process's any more, OSError where it cannot be written."""
        try:
            with self.path.open("r+b", buffering=0) as file:
                if not self._head.startswith(file.read(len(self._head))):  # all of it, or less where a disk was full
                    raise _taken_over(self.path)
                self._beats += 1
                file.seek(0)
                file.write(self._head + f"{self._beats:0{_DIGITS}}\n".encode())
        except FileNotFoundError as error:
            raise _taken_over(self.path) from error

    def release(self) -> None:
        with suppress(OSError):
            if self._head.startswith(self.path.read_bytes()[: len(self._head)]):
                self.path.unlink()


@contextmanager
def _hold_folder(folder: Path, name: str) -> Iterator[_Lock]:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _acquired(folder, name)
        try:
            yield lock
        finally:
            lock.release()
    finally:
        with suppress(OSError):  # the first that is not empty
            for path in missing:
                path.rmdir()


def _acquired(folder: Path, name: str) -> _Lock:
    gone: list[tuple[Path, bytes]] = []
    while True:
        found = _locks(folder, name)
        for path, content in found.items():
            if (path, content) not in gone:
                _require_gone(path, content)
                gone.append((path, content))
        lock = _Lock(folder / f"{name}-{1 + max(map(_number, found), default=0)}")
        try:
            os.close(os.open(lock.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except FileExistsError:
            continue
        try:
            lock.beat()
        except OSError as error:
            if not is_disk_full(error) or None in map(
                _owner, found.values()
            ):  # one that names nobody may be at this point
                lock.release()
                raise
            print(
                f"longrl: {lock.path}: {error.strerror}; it names its owner as soon as there is room", file=sys.stderr
            )
        others = {path: content for path, content in _locks(folder, name).items() if path != lock.path}
        if all((path, content) in gone for path, content in others.items()):
            for path in others:
                path.unlink(missing_ok=True)
            return lock
        lock.release()
        time.sleep(random.uniform(0, LOOK_S))


def _require_gone(path: Path, content: bytes) -> None:
    """Raises FolderInUse unless the owner of a lock is dead, which is waited for where only the heartbeat can tell."""
    owner = _owner(content)
    lives = owner.lives() if owner else None
    if lives is None:
        who = owner or "a process that does not say who it is"
        seconds = f"{MISSED * BEAT_S:.0f} s"
        print(
            f"longrl: {path.parent} is held by {who}; waiting {seconds} for its heartbeat", file=sys.stderr, flush=True
        )
        lives = _beats(path, content)
    if lives:
        raise FolderInUse(f"{path.parent} is in use by {owner or _owner(_read(path)) or 'another process'}")


def _beats(path: Path, content: bytes) -> bool:
    """Whether a lock changes within the beats that may be missed. Looks are counted, not time: this process may be
    frozen itself."""
    for _ in range(round(MISSED * BEAT_S / LOOK_S)):
        time.sleep(LOOK_S)
        if (now := _read(path)) != content:
            return bool(now)
    return False


def _find_holder(folder: Path, name: str) -> tuple[Path, Owner] | None:
    for path, content in _locks(folder, name).items():
        if (owner := _owner(content)) is not None and owner.lives() is not False:
            return path, owner
    return None


def _locks(folder: Path, name: str) -> dict[Path, bytes]:
    """The locks in a folder, with what they hold."""
    paths = [path for path in folder.glob(f"{name}-*") if path.name.removeprefix(f"{name}-").isdigit()]
    return {path: content for path in paths if (content := _read(path)) is not None}


def _number(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def _read(path: Path) -> bytes | None:
    """What a file holds, None if there is none. Opened anew, as network file systems show the newest only then."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _owner(content: bytes | None) -> Owner | None:
    """Whom a lock names; None where it is not written to its end."""
    try:
        return Owner(**json.loads((content or b"").partition(b"\n")[0]))
    except (ValueError, TypeError):
        return None


def _taken_over(path: Path) -> FolderTakenOver:
    owner = find_holder(path.parent, path.name.rpartition("-")[0])
    return FolderTakenOver(
        f"{path.parent} was taken over by {owner or 'another process'} while this one stood still; it writes no more "
        "there"
    )


def _end(why: str) -> None:
    os.write(2, f"{why}, and ends\n".encode())  # print might wait for what the main thread holds
    os._exit(TAKEN_OVER)


def _different(folders: Iterable[Path]) -> list[Path]:
    """The folders, each once, whatever links lead there."""
    return list({os.path.realpath(folder): folder for folder in folders}.values())


@cache
def _kernel() -> str:
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process started, in clock ticks since the system did; "" for one that has ended, None where it is not
    shown."""
    try:
        fields = Path("/proc", str(pid), "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return "" if fields[0] in "ZX" else fields[19]
