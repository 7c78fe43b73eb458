"""When a run's workers are forked, and with which variables."""

import os
from pathlib import Path
from typing import ClassVar

import pytest
from verl_longrl import secrets

from recipe.longrl import forked_workers, settings, worker_env

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


def test_a_ray_of_its_own_without_gpus_forks_with_all_that_workers_are_given(started, monkeypatch):
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "DEBUG")
    monkeypatch.setenv("HF_TOKEN", "hf_of_this_user")
    config = settings.compose(["hardware=cpu"])
    given = worker_env.public_variables(config)  # and verl is imported, which sets variables of its own
    with forked_workers.forking_python(config) as python:
        assert python == "/some/python"
        (environment,) = started
        assert environment == {**secrets.without(os.environ), **given}
        assert "HF_TOKEN" not in environment
        assert environment["OMP_NUM_THREADS"] == "1"
        assert environment["VLLM_LOGGING_LEVEL"] == "DEBUG"
    assert started[1:] == [{}]


@pytest.mark.parametrize(
    "overrides",
    [
        ["hardware=8gpu"],
        ["hardware=cpu", "+ray_kwargs.ray_init.address=192.0.2.1:6379"],
        ["hardware=cpu", f"+{worker_env.EXECUTABLE}=python"],
    ],
    ids=["GPUs", "a cluster", "the user's own"],
)
def test_others_start_as_usual(started, overrides):
    with forked_workers.forking_python(settings.compose(overrides)) as python:
        assert python is None
    assert started == []
