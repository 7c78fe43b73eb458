"""Where a run's workers are forks, and with which variables."""

import os
from pathlib import Path
from typing import ClassVar

import pytest
from omegaconf import OmegaConf

from recipe.longrl import forked_workers, settings, workers
from recipe.longrl.forked_workers import EXECUTABLE

pytestmark = pytest.mark.engine


class Recorded:
    """Stands for the zygote, which imports for seconds."""

    started: ClassVar[list[dict[str, str]]] = []

    def __init__(self, environment):
        self.executable = Path("/some/python")
        self.started.append(environment)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.started.append({})


@pytest.fixture
def started(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(forked_workers, "Zygote", Recorded)
    monkeypatch.setattr(Recorded, "started", [])
    return Recorded.started


def test_workers_of_an_own_ray_without_gpus_are_forks_with_all_their_variables(started, monkeypatch):
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "DEBUG")
    config = settings.compose(["hardware=cpu"])
    with forked_workers.forked_workers(config):
        assert OmegaConf.select(config, EXECUTABLE) == "/some/python"
        (environment,) = started
        given = workers.runtime_env(config)
        assert given["py_executable"] == "/some/python"
        assert given["env_vars"].items() <= environment.items()
        assert {**os.environ, **given["env_vars"]}.items() <= environment.items()
        assert environment["OMP_NUM_THREADS"] == "1"
    assert started[1:] == [{}]
    assert OmegaConf.select(config, EXECUTABLE) is None


@pytest.mark.parametrize(
    "overrides",
    [
        ["hardware=8gpu"],
        ["hardware=cpu", "+ray_kwargs.ray_init.address=192.0.2.1:6379"],
        ["hardware=cpu", f"+{EXECUTABLE}=python"],
    ],
    ids=["GPUs", "a cluster", "the user's own"],
)
def test_others_are_new_pythons(started, overrides):
    config = settings.compose(overrides)
    before = OmegaConf.to_container(config)
    with forked_workers.forked_workers(config):
        assert OmegaConf.to_container(config) == before
    assert started == []
