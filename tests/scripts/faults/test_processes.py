"""A run's processes are found whatever their parents are, and what they show to others is noticed."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from faults.leak_monitor import LeakMonitor, listening_beyond_loopback
from faults.processes import MARK, ROLES, ProcessFamily

SLEEPS = "import time; time.sleep(60)"
PARENT = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {SLEEPS!r}, *sys.argv[1:]])
time.sleep(60)
"""
LISTENS = """
import socket, sys, time
listener = socket.create_server((sys.argv[1], 0), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
print(listener.getsockname()[1], flush=True)
time.sleep(60)
"""
HOLDS = """
import mmap, multiprocessing, os, socket, sys, time
file = open(sys.argv[1], "w+b")
file.truncate(4096)
mapped = mmap.mmap(file.fileno(), 0)
file.close()
lock = multiprocessing.get_context("spawn").Lock()
os.rename(f"/dev/shm/sem.{lock._semlock.name[1:]}", sys.argv[3])
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[2])
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def start():
    started: list[ProcessFamily] = []

    def start_process(code: str, *arguments: str) -> tuple[subprocess.Popen[bytes], ProcessFamily]:
        mark = os.urandom(8).hex()
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, env={**os.environ, MARK: mark}
        )
        started.append(ProcessFamily(process.pid, mark))
        return process, started[-1]

    yield start_process
    for family in started:
        family.kill()


def wait_until(reached, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_orphaned_children_are_found(start):
    process, family = start(PARENT)
    wait_until(lambda: len(family.alive()) == 2)
    process.kill()
    process.wait()
    (child,) = family.alive()
    assert child.ppid() != process.pid
    family.kill()
    wait_until(lambda: not family.find_survivors())


def test_an_unknown_process_is_found_by_its_mark(start):
    process, family = start(PARENT)
    (child,) = _children(process.pid)
    process.kill()
    process.wait()
    assert family.alive() == []
    assert family.find_survivors() == [child]


def _children(pid):
    wait_until(lambda: psutil.Process(pid).children())
    return psutil.Process(pid).children()


def test_a_role_is_found_by_its_title_within_the_run(start):
    _, family = start(PARENT, ROLES["raylet"])
    _, other = start(PARENT)
    wait_until(lambda: len(family.alive()) == len(other.alive()) == 2)
    assert family.of_role("raylet").pid in {process.pid for process in family.alive()}
    assert other.of_role("raylet") is None


@pytest.mark.parametrize(("address", "beyond"), [("0.0.0.0", True), ("::", True), ("127.0.0.1", False), ("::1", False)])
def test_listening_beyond_loopback_is_noticed(start, address, beyond, monkeypatch):
    monkeypatch.setattr("faults.leak_monitor.POLL_S", 0.05)
    process, family = start(LISTENS, address)
    port = process.stdout.readline().decode().strip()
    with LeakMonitor(family, time.time() - 60, {}, []) as monitor:
        if beyond:
            wait_until(lambda: any(f":{port} of" in line for line in monitor.reachable))
        else:
            time.sleep(0.5)
    assert bool(monitor.reachable) == beyond
    assert any(where.endswith(f":{port}") for _, where in listening_beyond_loopback()) == beyond


def test_an_ipv4_loopback_address_in_ipv6_is_loopback(tmp_path):
    words = "0000000000000000FFFF00000100007F"  # ::ffff:127.0.0.1, as the kernel writes it
    row = "   0: {}:1F90 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 {} 1\n"
    (tmp_path / "tcp6").write_text("header\n" + row.format(words, 11) + row.format("0" * 32, 12))
    assert list(listening_beyond_loopback(tmp_path)) == [("12", ":::8080")]


def test_a_secret_on_a_command_line_is_noticed(start, monkeypatch):
    monkeypatch.setattr("faults.leak_monitor.POLL_S", 0.05)
    _, family = start(PARENT, "--key=canary-12345678")
    with LeakMonitor(family, time.time() - 60, {"KEY": "canary-12345678", "OTHER": "canary-87654321"}, []) as monitor:
        wait_until(lambda: monitor.exposed)
    assert monitor.exposed == {"KEY"}


def test_resources_left_behind_are_reported(start, monkeypatch):
    monkeypatch.setattr("faults.leak_monitor.POLL_S", 0.05)
    memory = Path(f"/dev/shm/longrl-test-{os.getpid()}")
    lock, address = memory.with_name(f"{memory.name}-lock"), Path(f"/tmp/longrl-test-{os.getpid()}.socket")
    process, family = start(HOLDS, str(memory), str(address), str(lock))
    with LeakMonitor(family, time.time() - 60, {}, []) as monitor:
        assert process.stdout.readline() == b"ready\n"
        wait_until(lambda: monitor.left_behind())
    process.send_signal(signal.SIGKILL)
    process.wait()
    try:
        assert monitor.left_behind() == [str(memory), str(lock), str(address)]
    finally:
        memory.unlink()
        lock.unlink()
        address.unlink()
    assert monitor.left_behind() == []


def test_ignored_folders_are_not_reported(start, monkeypatch):
    monkeypatch.setattr("faults.leak_monitor.POLL_S", 0.05)
    folder = Path(f"/dev/shm/longrl-test-{os.getpid()}")
    folder.mkdir()
    process, family = start(HOLDS, *(str(folder / name) for name in ("file", "socket", "lock")))
    try:
        with LeakMonitor(family, time.time() - 60, {}, [folder]) as monitor:
            assert process.stdout.readline() == b"ready\n"
            time.sleep(1)
        assert monitor.left_behind() == []
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def test_sockets_of_other_processes_are_ignored(start, monkeypatch):
    monkeypatch.setattr("faults.leak_monitor.POLL_S", 0.05)
    _, family = start(PARENT)
    with socket.create_server(("0.0.0.0", 0)), LeakMonitor(family, time.time() - 60, {}, []) as monitor:
        time.sleep(0.5)
    assert monitor.reachable == set()
