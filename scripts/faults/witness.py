"""Looks at a run's processes while it lasts: what nobody may see of them, and what they must not leave.

- command lines with a secret in them, which every user of the machine can read;
- sockets that listen beyond loopback;
- files, sockets and memory in the machine's own /tmp and /dev/shm that are held now, to be gone afterwards. (A run's
  TMPDIR is the campaign's, so what is there is looked at in the end.)
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

from faults.processes import Family, title

LOOK_EVERY_S = 0.5
HELD_EVERY = 6
"""Looks between two at what is held, which takes longest."""
_LISTENING = "0A"
_SHARED = re.compile(r"(/dev/shm|/tmp)/\S.*")


class Witness:
    """Of one start, in a thread, between `with` and its end. since: when it was started (time.time()). secrets: name ->
    value. own: folders of the run's own."""

    def __init__(self, family: Family, since: float, secrets: Mapping[str, str], own: Iterable[Path]) -> None:
        self.exposed: set[str] = set()
        self.reachable: set[str] = set()
        self._held: set[Path] = set()
        self._family, self._since, self._secrets, self._own = family, since, secrets, tuple(own)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="witness", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def left_behind(self) -> list[str]:
        """What processes of the run held outside of its own folders and is still there."""
        return sorted(str(path) for path in self._held if os.path.lexists(path))

    def _watch(self) -> None:
        looks = 0
        while not self._ended.wait(LOOK_EVERY_S):
            processes = self._family.alive()
            for process in processes:
                line = title(process)
                self.exposed.update(name for name, value in self._secrets.items() if value in line)
            if beyond := dict(listening_beyond_loopback()):
                for process in processes:
                    self.reachable.update(
                        f"{beyond[i]} of {title(process)[:80]}" for i in _sockets(process) & beyond.keys()
                    )
            if looks % HELD_EVERY == 0:
                self._held.update(path for path in held(processes) if self._is_new(path))
            looks += 1

    def _is_new(self, path: Path) -> bool:
        """Whether it was made during this start, and not in a folder of the run's own."""
        if any(path.is_relative_to(folder) for folder in self._own):
            return False
        try:
            return path.lstat().st_ctime >= self._since
        except OSError:
            return False


def listening_beyond_loopback(net: Path = Path("/proc/net")) -> Iterator[tuple[str, str]]:
    """Inode and address of each TCP socket on this machine that waits for callers from elsewhere."""
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):  # a machine without IPv6
            for line in (net / name).read_text().splitlines()[1:]:
                fields = line.split()
                address, _, port = fields[1].partition(":")
                if fields[3] == _LISTENING and not (ip := _ip(address)).is_loopback:
                    yield fields[9], f"{ip}:{int(port, 16)}"


def _ip(digits: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address as the kernel writes it: words of four bytes, the lowest first."""
    raw = bytes.fromhex(digits)
    packed = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
    ip = ipaddress.ip_address(packed)
    return getattr(ip, "ipv4_mapped", None) or ip


def _sockets(process: psutil.Process) -> set[str]:
    """Inodes of a process's sockets."""
    return {link[8:-1] for link in _open(process) if link.startswith("socket:[")}


def held(processes: Iterable[psutil.Process]) -> set[Path]:
    """What these processes have open or mapped below /tmp and /dev/shm, sockets included."""
    sockets, memory = dict(_unix_sockets()), {entry.inode(): entry.path for entry in os.scandir("/dev/shm")}
    found: set[str] = set()
    for process in processes:
        for link in _open(process):
            found.add(sockets.get(link[8:-1], "") if link.startswith("socket:[") else link)
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process.pid}/maps").read_text(errors="replace").splitlines():
                *_, inode, path = line.split(maxsplit=5)
                # a semaphore got its name after it was mapped
                found.add(memory.get(int(inode), "") if path.startswith("/dev/shm/") else path)
    return {Path(text) for text in found if _SHARED.fullmatch(text) and not text.endswith("(deleted)")}


def _open(process: psutil.Process) -> list[str]:
    """Where a process's file descriptors lead."""
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
