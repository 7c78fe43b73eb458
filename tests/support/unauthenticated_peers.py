"""Connections to a run's ports by somebody without its secrets, and the answers that they get."""

import ipaddress
import pickle
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
import zmq
from zmq.utils.monitor import recv_monitor_message

PICKLED = b"\xc1\xfe\xed"
"""TransferQueue's mark before a pickle."""


class Attack:
    """Unpickled, it writes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.write_text, (self.file, "code ran")


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it has started."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def listening(processes: Iterable[psutil.Process]) -> Iterator[tuple[str, str, int]]:
    """Title, address and port of each TCP socket that waits for callers."""
    for process in processes:
        try:
            title = " ".join(process.cmdline())
            yield from (
                (title, found.laddr.ip, found.laddr.port)
                for found in process.net_connections("tcp")
                if found.status == psutil.CONN_LISTEN
            )
        except psutil.Error:  # it has ended meanwhile
            continue


def reachable(processes: Iterable[psutil.Process]) -> list[tuple[str, str, int]]:
    """Those that answer another machine."""
    return [found for found in listening(processes) if not _on_loopback(found[1])]


def _on_loopback(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def unpickled(address: str, port: int, file: Path) -> bool:
    """Whether a pickle sent to a socket of TransferQueue was executed; raises TimeoutError if it did not refuse it."""
    context = zmq.Context()
    stranger = context.socket(zmq.DEALER)
    stranger.identity = b"TQ_STORAGE_stranger"
    events = stranger.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
    try:
        stranger.connect(f"tcp://{address}:{port}")
        stranger.send_multipart([PICKLED, pickle.dumps(Attack(file))])
        if not events.poll(10_000):
            raise TimeoutError(f"{address}:{port} neither accepts nor refuses")
        accepted = recv_monitor_message(events)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED
        return accepted or file.exists()
    finally:
        context.destroy(linger=0)


def status(address: str, port: int, path: str = "/v1/models") -> int:
    """The status code of a request without a key."""
    try:
        with urllib.request.urlopen(f"http://{address}:{port}{path}", timeout=10) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code


def turned_away(processes: Iterable[psutil.Process], folder: Path) -> dict[str, int]:
    """Of each kind of process that verl has listen without asking who calls: sockets at which a stranger tried and
    got nothing. Raises AssertionError where he got something."""
    tried = {"TransferQueueController": 0, "SimpleStorageUnit": 0, "vLLMHttpServer": 0}
    for title, address, port in listening(processes):
        kind = next((kind for kind in tried if kind in title), None)
        if kind is None or ":" in address:  # Ray's own, which wants its token
            continue
        if kind == "vLLMHttpServer":
            assert [status(address, port, path) for path in ("/v1/models", "/tokenize", "/health")] == [401] * 3, title
        else:
            assert not unpickled(address, port, folder / f"attacked-{port}"), title
        tried[kind] += 1
    return tried
