"""A node's software against the driver's: other variables, another checkout, a plugin that is installed nowhere."""

import importlib.metadata
from types import SimpleNamespace

import pytest

from recipe.longrl import worker_env
from recipe.longrl.preflight import environment
from recipe.longrl.preflight.nodes import software
from recipe.longrl.preflight.nodes.question import Driver, Node, Question

pytestmark = pytest.mark.engine
NODE = Node("0", "n0", "127.0.0.1", 1, 1, 1, 0)


def test_variables_that_differ_are_shown_and_secrets_are_not_compared(monkeypatch):
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "eth0")
    monkeypatch.setenv("WANDB_API_KEY", "theirs")
    monkeypatch.setenv("UNRELATED", "x")
    expected = software.expected_environment({"VLLM_LOGGING_LEVEL": "WARN", "OTHER": "y"})
    assert "UNRELATED" not in expected
    assert "OTHER" not in expected
    assert "WANDB_API_KEY" not in expected
    mine = {"NCCL_SOCKET_IFNAME": "ib0"}
    (found,) = software.variables(Question(None, NODE, Driver("", "", expected | mine)))  # type: ignore[arg-type]
    assert found.status == "warn"
    assert "NCCL_SOCKET_IFNAME is 'eth0', the driver's is 'ib0'" in found.detail
    assert "VLLM_LOGGING_LEVEL is not set, the driver's is 'WARN'" in found.detail
    assert "WANDB_API_KEY" not in found.detail


def test_another_python_and_another_checkout(composed):
    question = Question(composed("hardware=cpu"), NODE, Driver("3.10.0", "0123456789ab"))
    found = {finding.name: finding for finding in software.packages(question)}
    assert found["Python"].status == "FAIL"
    assert "the driver's is 3.10.0" in found["Python"].detail
    assert found["LongRL's code"].status == "FAIL"
    assert "the driver's is 0123456789ab. Fix: check out the same commit" in found["LongRL's code"].detail


def test_a_plugin_without_entry_points(monkeypatch):
    """LongRL on PYTHONPATH alone imports well, and no worker would load it."""
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: SimpleNamespace(names=set()))
    line = environment._plugin()
    assert line.status == "FAIL"
    assert "longrl is not among the entry points verl.plugins" in line.detail
    assert "pip install -e ." in line.detail


@pytest.mark.parametrize(
    ("switch", "value", "status"),
    [
        ("VERL_USE_EXTERNAL_PLUGINS", "none", "FAIL"),
        ("VERL_USE_EXTERNAL_PLUGINS", "other, longrl", "ok"),
        ("VLLM_PLUGINS", "lora_resolver", "FAIL"),
        ("VLLM_PLUGINS", "longrl_cpu_weights", "ok"),
    ],
)
def test_a_plugin_that_is_switched_off(switch: str, value: str, status: str, monkeypatch):
    monkeypatch.setenv(switch, value)
    line = environment._plugin()
    assert line.status == status
    assert status == "ok" or f"{switch} = {value!r} keeps longrl" in line.detail


def test_the_runtime_environment_is_the_runs(composed):
    """Contract: what verl's run_ppo would give the workers, the run's own values over its defaults."""
    variables = worker_env.runtime_env(composed("hardware=cpu"))["env_vars"]
    assert variables["VERL_PLATFORM"] == "cpu"
    assert variables["TOKENIZERS_PARALLELISM"] == "false"
    assert variables["VLLM_LOGGING_LEVEL"] == "WARN"
