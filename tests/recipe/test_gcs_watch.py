"""A lost control store ends the training; one that comes back in time does not."""

import signal
import socket
import subprocess
import sys
import time
from threading import Timer

import pytest

from recipe.longrl import gcs_watch

pytestmark = pytest.mark.engine
PROGRAM = """
import signal, time
import ray
from recipe.longrl.gcs_watch import ControlStoreLost, watch_control_store

signal.signal(signal.SIGINT, signal.SIG_IGN)  # as under nohup

@ray.remote(num_cpus=0)
class TaskRunner:
    def ready(self):
        pass

    def run(self):
        time.sleep(600)

try:
    with watch_control_store():
        ray.init(num_cpus=1, include_dashboard=False)
        runner = TaskRunner.remote()
        ray.get(runner.ready.remote())
        training = runner.run.remote()
        ray._private.worker.global_worker.node.all_processes["gcs_server"][0].process.kill()
        ray.get(training)
except ControlStoreLost as lost:
    print(lost)
    ray.shutdown()
    raise SystemExit(75)
"""


def test_rays_own_store_is_killed(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_ADDRESS", "local")
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert run.returncode == 75, run.stderr
    assert "Ray's control store (gcs_server at " in run.stdout


@pytest.fixture
def store(monkeypatch):
    """A local port instead of a cluster's store, which counts as lost after half a second."""
    listening = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{listening.getsockname()[1]}"
    monkeypatch.setattr(gcs_watch, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(gcs_watch, "_address_and_patience", lambda: (address, 0.5))
    yield listening
    listening.close()


def test_it_comes_back(store):
    address = store.getsockname()
    with gcs_watch.watch_control_store():
        time.sleep(0.1)
        store.close()
        time.sleep(0.2)
        with socket.create_server(address):
            time.sleep(0.6)


def test_it_does_not_come_back(store):
    before = signal.getsignal(gcs_watch.WAKING)
    Timer(0.1, store.close).start()
    with pytest.raises(gcs_watch.ControlStoreLost, match="gone"), gcs_watch.watch_control_store():
        time.sleep(10)
    assert signal.getsignal(gcs_watch.WAKING) == before


def test_what_interrupts_otherwise_is_passed_on(store):
    with pytest.raises(KeyboardInterrupt), gcs_watch.watch_control_store():
        raise KeyboardInterrupt
