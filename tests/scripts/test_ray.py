"""scripts/ray parses its host list or names the wrong line, and passes quoted commands to the hosts."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SSH = """#!/usr/bin/env bash
[ "$1" = -- ] || exit 255
printf '%s\\t%s\\t%s\\n' "$2" "$3" "$(cat)" >>"$LOG"
case "$3" in
  *node.sh\\ head*) [ "$2" != "${BROKEN_HEAD:-}" ] || { echo "runs already"; exit 1; }; echo "address 10.0.0.1:6379" ;;
  *node.sh\\ worker*) [ "$2" != "${BROKEN:-}" ] || { echo "no Ray here"; exit 1; } ;;
  *node.sh\\ stop*) [ "$2" != "${BROKEN:-}" ] || exit 255 ;;
esac
"""


@pytest.fixture
def call(tmp_path: Path):
    """call(script, text of the host file, variables) -> the finished script; host, command and input of each ssh."""
    ssh, log, hosts = tmp_path / "ssh", tmp_path / "log", tmp_path / "hosts"
    ssh.write_text(SSH)
    ssh.chmod(0o755)
    log.write_text("")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("LONGRL_", "RAY_"))}

    def run(script: str, text: str, **variables: str) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
        hosts.write_text(text)
        done = subprocess.run(
            ["bash", str(ROOT / "scripts" / "ray" / script), str(hosts)],
            env={**clean, "LONGRL_SSH": str(ssh), "LOG": str(log), **variables},
            capture_output=True,
            text=True,
        )
        return done, [line.split("\t") for line in log.read_text().splitlines()]

    return run


def test_the_first_is_the_head_and_the_others_join_it(call):
    done, calls = call("start.sh", "# nodes\n\n a slots=8 # head\nuser@b\nc-1.example.org slots=4")
    assert done.returncode == 0, done.stderr
    assert "3 nodes; RAY_ADDRESS=10.0.0.1:6379" in done.stdout
    (first, head, token), *others = calls
    assert first == "a"
    assert {host for host, _, _ in others} == {"user@b", "c-1.example.org"}
    assert "head --port=6379" in head
    assert "--gpus=8" in head
    commands = {host: command for host, command, _ in others}
    assert all("worker --port=6379" in c and "--address=10.0.0.1:6379" in c for c in commands.values())
    assert "--gpus=4" in commands["c-1.example.org"]
    assert "--gpus= " in commands["user@b"]
    assert len(token) == 64, "a secret of 256 bits, the same for all, on no command line"
    assert {other_token for _, _, other_token in others} == {token}
    assert not [command for _, command, _ in calls if token in command]


def test_each_start_has_a_new_token(call):
    tokens = {calls[-1][2] for _, calls in (call("start.sh", "a\n"), call("start.sh", "a\n", RAY_AUTH_MODE="token"))}
    assert len(tokens) == 2


def test_a_start_without_a_token_warns(call):
    done, ((_, command, token),) = call("start.sh", "a\n", RAY_AUTH_MODE="disabled")
    assert (done.returncode, token) == (0, "")
    assert "--auth=disabled" in command
    assert "RAY_AUTH_MODE=disabled: anybody who can reach a host over the network can run code there as" in done.stderr
    done, calls = call("start.sh", "a\n", RAY_AUTH_MODE="off")
    assert (done.returncode, len(calls)) == (2, 1)
    assert "RAY_AUTH_MODE = 'off': expected token or disabled" in done.stderr


@pytest.mark.parametrize("script", ["start.sh", "stop.sh"])
@pytest.mark.parametrize("port", ["..", "6379/..", "6379 1", "x"])
def test_a_port_must_be_a_number(call, script: str, port: str):
    done, calls = call(script, "a\n", LONGRL_RAY_PORT=port)
    assert (done.returncode, calls) == (2, [])
    assert f"LONGRL_RAY_PORT = '{port}': expected a number" in done.stderr


def test_variables_are_passed_unchanged(call, tmp_path: Path):
    done, calls = call(
        "start.sh",
        "a\n",
        LONGRL_CONTAINER="docker exec -i 'my longrl'",
        LONGRL_RAY_OPTIONS="--num-cpus=64 --memory=1",
        LONGRL_VENV="/a b/venv",
        LONGRL_RAY_PORT="7777",
        LONGRL_DASHBOARD_HOST="0.0.0.0",
    )
    assert done.returncode == 0, done.stderr
    ((_, command, _),) = calls
    assert command.startswith("docker exec -i my\\ longrl bash ")
    words = subprocess.run(["bash", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True).stdout.split(
        "\n"
    )
    for option in ("--venv=/a b/venv", "--more=--num-cpus=64 --memory=1", "--port=7777", "--auth=token"):
        assert option in words
    assert "--dashboard-host=0.0.0.0" in words


@pytest.mark.parametrize("script", ["start.sh", "stop.sh"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nb slots=x\n", "hosts:2: 'b slots=x': expected HOST [slots=GPUS]"),
        ("a 8\n", "hosts:1: 'a 8': expected HOST [slots=GPUS]"),
        ("a; rm\n", "hosts:1: 'a; rm': expected HOST"),
        ("-oProxyCommand=x\n", ": expected HOST"),
        ("-F@h1\n", "hosts:1: '-F@h1': expected HOST"),
        (".@h1\n", ": expected HOST"),
        ("user@-oProxyCommand=x\n", ": expected HOST"),
        ("@h1\n", ": expected HOST"),
        ("a@b@c\n", ": expected HOST"),
        ("$(id)@h1\n", ": expected HOST"),
        ("a/../b\n", ": expected HOST"),
        ("a\n\nb\na slots=2\n", "hosts:4: a is in line 1 already"),
        ("# none\n\n", "has no host"),
    ],
)
def test_a_wrong_line_is_named_before_any_connection(call, script: str, text: str, message: str):
    done, calls = call(script, text)
    assert done.returncode == 2
    assert message in done.stderr
    assert calls == []


def test_a_missing_host_file_is_named():
    done = subprocess.run(["bash", "scripts/ray/start.sh", "/no/such"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no host file at '/no/such'" in done.stderr


def test_all_hosts_are_stopped_if_one_fails(call):
    done, calls = call("start.sh", "a\nb\nc\n", BROKEN="b")
    assert done.returncode == 2
    assert "Ray did not start on b, see above" in done.stderr
    assert "b: no Ray here" in done.stdout
    assert [host for host, command, _ in calls if "node.sh stop" in command] == ["c", "a"]


def test_earlier_nodes_are_not_stopped(call):
    """A second start at the same port must not end the training of the first."""
    done, calls = call("start.sh", "a\nb\n", BROKEN_HEAD="a")
    assert done.returncode == 2
    assert "the head on a did not start, see above" in done.stderr
    assert [host for host, *_ in calls] == ["a"]


def test_a_host_that_cannot_be_stopped_is_named(call):
    done, calls = call("stop.sh", "a\nb\n", BROKEN="b")
    assert done.returncode == 1
    assert "not stopped on b" in done.stderr
    assert [host for host, *_ in calls] == ["b", "a"]
