"""Two hosts for scripts/ray on this machine: a stand-in for ssh gives each its own folder, Ray its own ports."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import psutil

SCRIPTS = Path(__file__).parents[2] / "scripts" / "ray"
SSH = """#!/usr/bin/env bash
# ssh -- HOST COMMAND
export TMPDIR={folder}/$2
mkdir -p "$TMPDIR"
exec bash -c "$3"
"""
OPTIONS = "--num-cpus=8 --object-store-memory=200000000 --min-worker-port=0 --max-worker-port=0"


class RayHosts:
    """start() and stop() call the scripts; each node has one logical GPU."""

    def __init__(self, venv: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lr"))  # Ray's sockets lie in it, and their paths must be short
        self.hosts, ssh = self.folder / "hosts", self.folder / "ssh"
        self.hosts.write_text("# the head is the first\nnode1 slots=1\n\nnode2 slots=1  # and one more\n")
        ssh.write_text(SSH.format(folder=self.folder))
        ssh.chmod(0o755)
        self.port, self.dashboard_port = free_port(), free_port()
        own = {"LONGRL_SSH": str(ssh), "LONGRL_VENV": venv, "LONGRL_RAY_PORT": str(self.port)}
        own |= {"LONGRL_DASHBOARD_PORT": str(self.dashboard_port), "LONGRL_RAY_TEMP": str(self.folder / "ray")}
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("LONGRL_", "RAY_"))}
        self.environment = {**clean, **own, "LONGRL_RAY_OPTIONS": OPTIONS}

    @property
    def dashboard(self) -> str:
        return f"http://127.0.0.1:{self.dashboard_port}"

    @property
    def on_head(self) -> dict[str, str]:
        """The variables of a process on the head, as start.sh prints them."""
        return {"RAY_ADDRESS": self.said.rpartition("RAY_ADDRESS=")[2].split()[0], "TMPDIR": str(self.folder / "node1")}

    @property
    def token(self) -> dict[str, str]:
        """The variables that give a process elsewhere the token."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self._folder("node1") / "token")}

    def listening(self) -> dict[int, str]:
        """Where processes of the two nodes accept connections: a URL by port."""
        starters = [psutil.Process(int((self._folder(node) / "pid").read_text())) for node in ("node1", "node2")]
        processes = [process for starter in starters for process in (starter, *starter.children(recursive=True))]
        found = {}
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                for connection in process.net_connections("tcp"):
                    if connection.status == psutil.CONN_LISTEN:
                        address = connection.laddr.ip.replace("0.0.0.0", "127.0.0.1").replace("::", "127.0.0.1")
                        found[connection.laddr.port] = f"http://{address}:{connection.laddr.port}"
        return found

    def _folder(self, node: str) -> Path:
        return self.folder / node / f"longrl-ray-{os.getuid()}" / str(self.port)

    def start(self) -> None:
        done = self._call("start.sh", str(self.hosts), "127.0.0.1")
        assert done.returncode == 0, done.stdout + done.stderr
        self.said = done.stdout

    def stop(self) -> None:
        done = self._call("stop.sh", str(self.hosts))
        shutil.rmtree(self.folder, ignore_errors=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def _call(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", str(SCRIPTS / script), *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=300)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
