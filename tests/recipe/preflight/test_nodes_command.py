"""The command line: without a cluster this machine is looked at; a dead cluster is status 2, with the time it took."""

import subprocess
import sys

import pytest

from recipe.longrl.preflight import __main__ as command
from recipe.longrl.preflight import nodes

pytestmark = pytest.mark.engine


def test_help_names_the_exit_status(capsys):
    command.main(["--help"])
    assert "exit status: 0" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--timeout"], ["--timeout", "soon"]])
def test_a_timeout_that_is_none(arguments: list[str], capsys):
    with pytest.raises(SystemExit) as ending:
        command.main(arguments)
    assert ending.value.code == 2
    assert "--timeout needs a number of seconds" in capsys.readouterr().err


def test_without_a_cluster_this_machine_is_looked_at(configure):
    found = {line.name: line.status for line in nodes.checks(configure(), 30)}
    assert found["nodes: GPUs"] == found["nodes: ports"] == "ok"
    assert "nodes: all-reduce" not in found


def test_a_dead_cluster(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    given = ["data.train_files=[/no.parquet]", "data.val_files=[/no.parquet]", "actor_rollout_ref.model.path=/no"]
    done = subprocess.run(
        [sys.executable, "-m", "recipe.longrl.preflight", *given], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert "no Ray cluster answers at 127.0.0.1:9" in done.stdout.replace("\n", " ")
    assert "preflight failed in" in done.stderr
