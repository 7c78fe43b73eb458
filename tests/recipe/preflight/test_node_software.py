"""A node's software against the driver's, and the environment that the run's workers get."""

import pytest

from recipe.longrl import worker_env
from recipe.longrl.preflight.nodes import software

pytestmark = pytest.mark.engine


def test_another_python_and_other_sources(composed, probe_input):
    given = probe_input(composed("hardware=cpu"), python="3.10.0", code="0123456789ab")
    lines = {line.name: line for line in software.check_packages(given)}
    assert lines["Python"].status == lines["LongRL's code"].status == "FAIL"
    assert "but the driver has 3.10.0" in lines["Python"].detail
    assert "but the driver has 0123456789ab. Fix: check out the same commit" in lines["LongRL's code"].detail


def test_the_runtime_environment_is_the_runs(composed):
    """Contract: the variables that verl's run_ppo would give the workers, with the run's values above its defaults."""
    variables = worker_env.runtime_env(composed("hardware=cpu"))["env_vars"]
    assert variables["VERL_PLATFORM"] == "cpu"
    assert variables["TOKENIZERS_PARALLELISM"] == "false"
    assert variables["VLLM_LOGGING_LEVEL"] == "WARN"
