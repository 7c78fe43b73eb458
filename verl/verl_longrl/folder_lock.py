"""Let one process at a time work in a folder: a lock file names its owner, which writes to it while it lives.

    FOLDER/.lock-7     {"id": "...", "host": "node3", "pid": 4211, ...}
                       000000000042      the heartbeat, counted up every BEAT_S seconds

Kernel locks (flock) do not hold on every network file system; creating a file only if there is none (O_EXCL) works
everywhere. Whether an owner on the same machine lives, the system knows. Any other owner is watched: it lives if its
heartbeat changes, and is dead if the heartbeat stays the same for MISSED beats. Clocks of two machines are never
compared.

Taking over a dead owner's lock:

    1. .lock-7 is dead: its process is gone, or its heartbeat has not changed for MISSED beats
    2. create .lock-8 with O_EXCL; only one process can, any other starts again at 1
    3. list the locks once more; if there is one that was not seen dead, remove .lock-8 and start again at 1
    4. remove .lock-7

An owner that was frozen (a suspended machine, a disk that hung) may wake up and find its lock gone. It must not write
any more: the process that beats is ended (`hold_folders`), and others that write for it check their `Claim` first.
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
"""Seconds between two looks at the heartbeat of another process."""
TAKEN_OVER = 1
"""Exit status of a process whose lock was taken over."""
_DIGITS = 12


class FolderInUse(RuntimeError):
    """Another process uses the folder; the message names both."""


class FolderTakenOver(RuntimeError):
    """Another process has taken over the folder, so this one must not write there any more."""


@dataclass(frozen=True)
class Owner:
    """The process that holds a lock."""

    id: str
    host: str
    pid: int
    started: str
    """When the process started, in clock ticks of the system; "" if unknown. A reused pid has another value."""
    kernel: str
    """The boot of the system and the pid namespace; "" if unknown. A pid means something only where these are equal."""
    slurm_job: str | None
    since: str
    """The time of locking, for people."""

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
        """Whether the process is running; None where only its heartbeat can tell."""
        if not self.kernel or self.kernel != _kernel():
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            # A process of another user: it exists.
            pass
        started = _started(self.pid)
        return None if started is None else started == self.started

    def is_this_process(self) -> bool:
        return self.pid == os.getpid() and self.lives() is True


@contextmanager
def hold_folders(
    folders: Iterable[Path], name: str = NAME, on_taken_over: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Hold these folders during the block. Missing ones are created, and removed again if they are still empty then.

    Waits for up to MISSED beats where an owner on another machine may be dead. Raises FolderInUse, and OSError where a
    folder cannot be written to.

    on_taken_over: called in another thread with the message when a lock was lost. By default this process ends at once.
    """
    over, report_loss = threading.Event(), on_taken_over or _end_process
    with ExitStack() as stack:
        locks = [stack.enter_context(_hold_folder(folder, name)) for folder in _different(folders)]

        def beat() -> None:
            while not over.wait(BEAT_S):
                for lock in locks:
                    try:
                        lock.beat()
                    except FolderTakenOver as error:
                        return report_loss(str(error))
                    except OSError:
                        # A full disk, or a file server that is away: the next beat may succeed.
                        continue

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(BEAT_S)


def find_holder(folder: Path, name: str = NAME) -> Owner | None:
    """The process that holds a folder, as far as can be told without waiting; None if it is known to be dead."""
    lock = _find_lock(folder, name)
    return lock[1] if lock else None


class Claim:
    """Checks that a folder is still held as it was at first, for processes that write there on behalf of its holder."""

    def __init__(self, folder: Path, name: str = NAME) -> None:
        self._lock = _find_lock(folder, name)

    def require(self) -> None:
        """Raise FolderTakenOver unless the lock is as it was. A folder that was not locked may be used by anyone."""
        if self._lock is not None:
            path, owner = self._lock
            try:
                current = _owner(path.read_bytes())
            except FileNotFoundError:
                current = None
            except OSError:
                # A file server that is away has not given the folder to another process.
                return
            if current is None or current.id != owner.id:
                raise _taken_over(path)


class _Lock:
    """The lock file of this process at `path`."""

    def __init__(self, path: Path) -> None:
        self.path, self._beats = path, 0
        self._head = (json.dumps(asdict(Owner.this_process())) + "\n").encode()

    def beat(self) -> None:
        """Count up. Raises FolderTakenOver if the file is another process's by now, OSError if it cannot be written."""
        try:
            with self.path.open("r+b", buffering=0) as file:
                # The file may hold only a part of the head, where the disk was full.
                if not self._head.startswith(file.read(len(self._head))):
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
        lock = _acquire(folder, name)
        try:
            yield lock
        finally:
            lock.release()
    finally:
        # Innermost first. The first folder that is not empty ends the loop with an error.
        with suppress(OSError):
            for path in missing:
                path.rmdir()


def _acquire(folder: Path, name: str) -> _Lock:
    """Lock a folder. Raises FolderInUse when another process holds it.

    Two processes may find the same dead lock at the same time. Both try to create the file with the next number, which
    only one can. Both may also create different numbers one after the other; then each sees the other's lock below and
    steps back, unless it has seen that lock dead.
    """
    dead: list[tuple[Path, bytes]] = []
    while True:
        locks = _locks(folder, name)
        for path, content in locks.items():
            if (path, content) not in dead:
                _require_dead(path, content)
                dead.append((path, content))
        lock = _Lock(folder / f"{name}-{1 + max(map(_number, locks), default=0)}")
        try:
            os.close(os.open(lock.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except FileExistsError:
            continue
        try:
            lock.beat()
        except OSError as error:
            # With a full disk the lock works although it does not name its owner yet. Not next to another nameless
            # lock, whose owner may be at the same point.
            if not is_disk_full(error) or None in map(_owner, locks.values()):
                lock.release()
                raise
            print(
                f"longrl: {lock.path}: {error.strerror}; it names its owner as soon as there is room", file=sys.stderr
            )
        others = {path: content for path, content in _locks(folder, name).items() if path != lock.path}
        if all((path, content) in dead for path, content in others.items()):
            for path in others:
                path.unlink(missing_ok=True)
            return lock
        lock.release()
        time.sleep(random.uniform(0, LOOK_S))


def _require_dead(path: Path, content: bytes) -> None:
    """Raise FolderInUse unless the owner of a lock is dead. Waits where only the heartbeat can tell."""
    owner = _owner(content)
    lives = owner.lives() if owner else None
    if lives is None:
        who = owner or "an unknown process"
        seconds = f"{MISSED * BEAT_S:.0f} s"
        print(
            f"longrl: {path.parent} is held by {who}; waiting {seconds} for its heartbeat", file=sys.stderr, flush=True
        )
        lives = _beats(path, content)
    if lives:
        raise FolderInUse(f"{path.parent} is in use by {owner or _owner(_read(path)) or 'another process'}")


def _beats(path: Path, content: bytes) -> bool:
    """Whether a lock changes within the beats that may be missed.

    Looks are counted instead of time, because this process may be frozen itself.
    """
    for _ in range(round(MISSED * BEAT_S / LOOK_S)):
        time.sleep(LOOK_S)
        if (now := _read(path)) != content:
            return bool(now)
    return False


def _find_lock(folder: Path, name: str) -> tuple[Path, Owner] | None:
    for path, content in _locks(folder, name).items():
        if (owner := _owner(content)) is not None and owner.lives() is not False:
            return path, owner
    return None


def _locks(folder: Path, name: str) -> dict[Path, bytes]:
    """The lock files in a folder, with their content."""
    paths = [path for path in folder.glob(f"{name}-*") if path.name.removeprefix(f"{name}-").isdigit()]
    return {path: content for path in paths if (content := _read(path)) is not None}


def _number(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def _read(path: Path) -> bytes | None:
    """The content of a file; None if there is none.

    Network file systems show the newest content only when it is opened.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _owner(content: bytes | None) -> Owner | None:
    """The owner that a lock names; None where the file is incomplete."""
    try:
        return Owner(**json.loads((content or b"").partition(b"\n")[0]))
    except (ValueError, TypeError):
        return None


def _taken_over(path: Path) -> FolderTakenOver:
    owner = find_holder(path.parent, path.name.rpartition("-")[0])
    return FolderTakenOver(
        f"{path.parent} was taken over by {owner or 'another process'} while this one was frozen; it must not write "
        "there any more"
    )


def _end_process(reason: str) -> None:
    # Not print: it may wait for a lock that the main thread holds.
    os.write(2, f"{reason}, and ends\n".encode())
    os._exit(TAKEN_OVER)


def _different(folders: Iterable[Path]) -> list[Path]:
    """The folders, each once, also where links lead to the same one."""
    return list({os.path.realpath(folder): folder for folder in folders}.values())


@cache
def _kernel() -> str:
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; "" for one that has ended, None where it cannot be told."""
    try:
        fields = Path("/proc", str(pid), "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    # proc(5): field 3 is the state (Z, X: dead), field 22 the start time. `fields` begins with field 3.
    return "" if fields[0] in "ZX" else fields[19]
