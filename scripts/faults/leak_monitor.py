"""Monitor a run's processes for secrets that others can see, open ports, and resources that they leave behind.

- command lines that contain a secret, which every user of the machine can read
- sockets that listen beyond loopback
- files, sockets and memory in the machine's /tmp and /dev/shm that processes hold and that must be gone afterwards (the
  run's own TMPDIR is checked at the end instead)
"""

import contextlib
import ipaddress
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from faults.processes import ProcessFamily, read_title

POLL_S = 0.5
HELD_EVERY_POLLS = 6
"""Polls between two collections of held resources, which take longest."""
_LISTENING = "0A"
_SHARED = re.compile(r"(/dev/shm|/tmp)/\S.*")


class LeakMonitor:
    """Monitors one start in a thread, as a context manager.

    Args:
        since: time of the start (time.time()).
        secrets: name -> value.
        ignored: folders of the run.
    """

    def __init__(
        self, family: ProcessFamily, since: float, secrets: Mapping[str, str], ignored: Iterable[Path]
    ) -> None:
        self.exposed: set[str] = set()
        self.reachable: set[str] = set()
        self._held: set[Path] = set()
        self._family, self._since, self._secrets, self._ignored = family, since, secrets, tuple(ignored)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="monitor", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def left_behind(self) -> list[str]:
        """Resources that processes of the run held outside its folders and that still exist."""
        return sorted(str(path) for path in self._held if os.path.lexists(path))

    def _watch(self) -> None:
        polls = 0
        while not self._ended.wait(POLL_S):
            processes = self._family.alive()
            for process in processes:
                line = read_title(process)
                self.exposed.update(name for name, value in self._secrets.items() if value in line)
            if listening := dict(listening_beyond_loopback()):
                for process in processes:
                    self.reachable.update(
                        f"{listening[i]} of {read_title(process)[:80]}" for i in _sockets(process) & listening.keys()
                    )
            if polls % HELD_EVERY_POLLS == 0:
                self._held.update(path for path in find_held(processes) if self._is_new(path))
            polls += 1

    def _is_new(self, path: Path) -> bool:
        """Whether it was created during this start, outside the ignored folders."""
        if any(path.is_relative_to(folder) for folder in self._ignored):
            return False
        try:
            return path.lstat().st_ctime >= self._since
        except OSError:
            return False


def listening_beyond_loopback(net: Path = Path("/proc/net")) -> Iterator[tuple[str, str]]:
    """Inode and address of each TCP socket on this machine that other machines can connect to."""
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):  # No IPv6 on this machine.
            for line in (net / name).read_text().splitlines()[1:]:
                fields = line.split()
                address, _, port = fields[1].partition(":")
                if fields[3] == _LISTENING and not (ip := _ip(address)).is_loopback:
                    yield fields[9], f"{ip}:{int(port, 16)}"


def _ip(digits: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Parse an address in the kernel's format: words of four bytes, each little-endian."""
    raw = bytes.fromhex(digits)
    packed = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
    ip = ipaddress.ip_address(packed)
    return getattr(ip, "ipv4_mapped", None) or ip


def _sockets(process: psutil.Process) -> set[str]:
    """Inodes of a process's sockets."""
    return {link[8:-1] for link in _open_links(process) if link.startswith("socket:[")}


def find_held(processes: Iterable[psutil.Process]) -> set[Path]:
    """Paths below /tmp and /dev/shm that these processes have open or mapped, including sockets."""
    sockets, memory = dict(_unix_sockets()), {entry.inode(): entry.path for entry in os.scandir("/dev/shm")}
    paths: set[str] = set()
    for process in processes:
        for link in _open_links(process):
            paths.add(sockets.get(link[8:-1], "") if link.startswith("socket:[") else link)
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process.pid}/maps").read_text(errors="replace").splitlines():
                *_, inode, path = line.split(maxsplit=5)
                # A semaphore is renamed after it was mapped, so look up its present name.
                paths.add(memory.get(int(inode), "") if path.startswith("/dev/shm/") else path)
    return {Path(text) for text in paths if _SHARED.fullmatch(text) and not text.endswith("(deleted)")}


def _open_links(process: psutil.Process) -> list[str]:
    """The targets of a process's file descriptors."""
    links = []
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{process.pid}/fd"):
            with contextlib.suppress(OSError):
                links.append(os.readlink(entry.path))
    return links


def _unix_sockets() -> Iterator[tuple[str, str]]:
    """Inode and path of each Unix socket on this machine that has a path."""
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if len(fields) == 8:
            yield fields[6], fields[7]
