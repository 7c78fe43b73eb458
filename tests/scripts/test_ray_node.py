"""scripts/ray/node.sh on a shared machine: it does not follow, trust or kill anything that others prepared."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

RAY = Path(__file__).resolve().parents[2] / "scripts" / "ray"
PYTHON = """#!/usr/bin/env bash
# stands in for Python with Ray: says what it was given, and runs until it is ended
printf '%s\\n' "$@"
echo "mode $RAY_AUTH_MODE, token ${RAY_AUTH_TOKEN-none}, file ${RAY_AUTH_TOKEN_PATH-none}, temporary $TMPDIR"
echo "Ray runtime started. ray start --address='10.0.0.1:7777'"
sleep 60 &
wait
"""


class NodeScript:
    """Runs node.sh with temporary folders."""

    def __init__(self, folder: Path) -> None:
        self.temporary = folder
        self.user = folder / f"longrl-ray-{os.getuid()}"
        self.folder = self.user / "7777"
        self.python = folder / "venv" / "bin" / "python"
        self.python.parent.mkdir(parents=True)
        self.python.write_text(PYTHON)
        self.python.chmod(0o755)

    def call(self, action: str, *options: str, token: str = "") -> subprocess.CompletedProcess[str]:
        given = [action, "--port=7777", f"--venv={self.python.parents[1]}", *options]
        clean = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        environment = {**clean, "TMPDIR": str(self.temporary), "RAY_AUTH_TOKEN": "another's"}
        command = ["bash", str(RAY / "node.sh"), *given]
        return subprocess.run(command, input=token, env=environment, capture_output=True, text=True, timeout=60)

    def head(self, *options: str, token: str = "a-secret") -> subprocess.CompletedProcess[str]:
        dashboard = ("--dashboard-host=127.0.0.1", "--dashboard-port=1")
        return self.call("head", *dashboard, f"--temp={self.temporary / 'r'}", *options, token=token)

    @property
    def pid(self) -> int:
        return int((self.folder / "pid").read_text())


@pytest.fixture
def node() -> Iterator[NodeScript]:
    with tempfile.TemporaryDirectory(prefix="ln", dir="/tmp") as folder:  # short, for Ray's sockets
        node = NodeScript(Path(folder))
        try:
            yield node
        finally:
            node.call("stop")


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process of this user that resembles Ray."""
    process = subprocess.Popen(["bash", "-c", "sleep 60; true", "ray", "start", "--block"], start_new_session=True)
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_the_token_is_read_from_standard_input_and_kept_in_a_file(node: NodeScript):
    done = node.head()
    assert (done.returncode, done.stdout) == (0, "address 10.0.0.1:7777\n"), done.stdout + done.stderr
    token = node.folder / "token"
    assert token.read_text() == "a-secret"
    assert [path.stat().st_mode & 0o777 for path in (node.user, node.folder, token)] == [0o700, 0o700, 0o600]
    log = (node.folder / "ray.log").read_text()
    assert f"mode token, token none, file {token}, temporary {node.folder}/tmp" in log
    assert "a-secret" not in log + Path(f"/proc/{node.pid}/cmdline").read_text()
    assert "already running" in node.head().stdout
    assert node.call("stop").stdout == "stopped\n"
    assert not node.user.exists()


def test_without_a_token_nothing_starts(node: NodeScript):
    done = node.head(token="")
    assert done.returncode == 1
    assert "no token on standard input. Fix: LONGRL_CONTAINER must forward it" in done.stdout
    assert not (node.folder / "pid").exists()
    assert node.head("--auth=disabled", token="").returncode == 0
    assert "mode disabled, token none, file none" in (node.folder / "ray.log").read_text()
    assert not (node.folder / "token").exists()


@pytest.mark.parametrize("depth", ["user", "port"])
def test_a_folder_that_somebody_prepared_is_rejected(node: NodeScript, bystander, depth: str):
    """Its ray.log is a link to a file of the user, its pid file names a process of the user."""
    precious, trap = node.temporary / "bashrc", node.temporary / "trap"
    precious.write_text("mine")
    inside = trap / "7777" if depth == "user" else trap
    inside.mkdir(parents=True)
    (inside / "ray.log").symlink_to(precious)
    (inside / "pid").write_text(str(bystander.pid))
    place = node.user if depth == "user" else node.folder
    place.parent.mkdir(mode=0o700, exist_ok=True)
    place.symlink_to(trap)
    for done in (node.head(), node.call("stop")):
        assert done.returncode == 2
        assert f"{place} is a link" in done.stderr
    place.unlink()
    trap.rename(place)
    if os.getuid() == 0:
        os.chown(place, 65534, 65534)
        refused = f"{place} belongs to "
    else:  # nobody's but root's to give away: one that others could have filled
        place.chmod(0o777)
        refused = f"{place} is writable by others"
    for done in (node.head(), node.call("stop")):
        assert done.returncode == 2
        assert refused in done.stderr
    shutil.rmtree(place)
    assert precious.read_text() == "mine"
    assert bystander.poll() is None


def test_only_our_process_is_stopped(node: NodeScript, bystander):
    """A pid of another process after a reboot, one of ours for another port, and nonsense."""
    other = NodeScript(node.temporary / "other")
    assert other.head().returncode == 0
    try:
        for pid in (str(bystander.pid), str(other.pid), "1", "-1", "0", "x; id", ""):
            node.folder.mkdir(parents=True)
            (node.folder / "pid").write_text(pid)
            done = node.call("stop")
            assert (done.returncode, done.stdout) == (0, "no Ray of start.sh runs here\n"), pid
        assert bystander.poll() is None
        os.kill(other.pid, 0)
    finally:
        assert other.call("stop").stdout == "stopped\n"


@pytest.mark.parametrize("port", ["..", "../../x", "", "7777/../..", "1 2"])
def test_a_port_must_be_a_number(node: NodeScript, port: str):
    """It is part of the path of a folder that is removed."""
    done = node.call("stop", f"--port={port}")
    assert done.returncode == 2
    assert f"--port={port}: expected a number" in done.stderr
    assert node.python.exists()


def test_a_path_too_long_for_sockets_is_rejected(node: NodeScript):
    done = node.head(f"--temp=/{'x' * 39}")
    assert (done.returncode, "but Ray's sockets leave room for 39" in done.stdout) == (1, True)


FIND = 'source "$1/cluster.sh"; find_token; echo "${RAY_AUTH_MODE-} ${RAY_AUTH_TOKEN_PATH-}"'


@pytest.mark.parametrize(
    ("address", "variables", "is_used"),
    [
        ("10.0.0.1:7777", {}, True),
        ("10.0.0.2:7777", {}, False),  # Our token is not sent to another cluster.
        ("http://10.0.0.1:7777", {}, False),
        ("", {}, False),
        ("10.0.0.1:7777", {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "mine"}, False),
    ],
)
def test_the_token_is_used_only_for_its_cluster(tmp_path: Path, address: str, variables: dict[str, str], is_used: bool):
    folder = tmp_path / f"longrl-ray-{os.getuid()}" / "7777"
    folder.mkdir(parents=True)
    (folder / "token").write_text("a-secret")
    (folder / "address").write_text("10.0.0.1:7777\n")
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path), "RAY_ADDRESS": address, **variables}
    done = subprocess.run(["bash", "-euc", FIND, "bash", str(RAY)], env=environment, capture_output=True, text=True)
    expected = f"token {folder}/token" if is_used else " ".join(variables.values()) if variables else ""
    assert done.stdout.strip() == expected, done.stderr
