"""A node's software: the driver's Python, versions, plugin and LongRL sources, and its environment variables."""

import contextlib
import hashlib
import os
import platform
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from verl_longrl import secrets

from recipe.longrl.preflight import environment, judge
from recipe.longrl.preflight.nodes.finding import Finding
from recipe.longrl.preflight.nodes.question import Question

MATTER = re.compile(
    r"(NCCL|TORCH_NCCL|GLOO|UCX|VERL|LONGRL|VLLM|HF|TRANSFORMERS|TORCH|PYTORCH|WANDB|OPENAI)_\w+"
    r"|PYTHONPATH|PYTHONHASHSEED|LD_LIBRARY_PATH|CUDA_HOME|CUDA_DEVICE_MAX_CONNECTIONS"
    r"|(https?|all|no)_proxy|(HTTPS?|ALL|NO)_PROXY"
)
"""Variables that change what a run does, and whether it works."""


def packages(question: Question) -> Iterator[Finding]:
    """Versions as locked, plugin, platform; then what need only be the driver's: Python and LongRL's own sources."""
    for check in environment.checks(question.config, dry_run=False):
        yield Finding(check.name, check.status, check.detail)
    for name, here, drivers, fix in (
        ("Python", platform.python_version(), question.driver.python, "make the environment with the same Python"),
        ("LongRL's code", sources(), question.driver.code, "check out the same commit on every node"),
    ):
        if here == drivers:
            yield Finding(name, "ok", f"{here}, as the driver's")
        else:
            yield Finding(name, "FAIL", f"{here}, the driver's is {drivers}. Fix: {fix}")


def sources() -> str:
    """A digest of LongRL's Python files in this process's environment."""
    import verl_longrl

    import recipe

    digest = hashlib.sha256()
    for package in (recipe, verl_longrl):
        root = Path(next(iter(package.__path__)))
        for path in sorted(root.rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def expected_environment(runtime_env: Mapping[str, str]) -> dict[str, str]:
    """Variables that the run's processes should see: those of the driver that matter, and what the run hands over. No
    secrets: those come from the run's file, whatever a node has."""
    seen = secrets.without({**os.environ, **runtime_env})
    return {name: value for name, value in seen.items() if MATTER.fullmatch(name)}


def variables(question: Question) -> Iterator[Finding]:
    """What the driver has, and this node lacks or has otherwise; and what it alone has."""
    expected, here = question.driver.environment, expected_environment({})
    differing = [
        f"{name} {_shown(here.get(name))}, the driver's {_shown(expected.get(name))}"
        for name in sorted(expected.keys() | here.keys())
        if here.get(name) != expected.get(name)
    ]
    if differing:
        fix = "set them before `ray start`, or carry them: LONGRL_FORWARD_ENV=NAME,..."
        yield Finding("variables", "warn", f"{'; '.join(differing)}. Fix, if they matter: {fix}")
    else:
        yield Finding("variables", "ok", "as the driver's")


def _shown(value: str | None) -> str:
    return "is not set" if value is None else f"is {value!r}"


def keys(question: Question) -> Iterator[Finding]:
    """Whether the run's workers on this node will find its keys."""
    try:
        secrets.load()
    except secrets.SecretsError as error:
        yield Finding("keys", "FAIL", str(error))


def judge_answers(question: Question) -> Iterator[Finding]:
    """The judge's endpoints, as a reward worker on this node reaches them."""
    from verl_longrl.config import LongRLConfig

    from recipe.longrl.settings import plain

    longrl = LongRLConfig.from_dict(plain(question.config.longrl))
    if longrl.reward.answer.by == "judge":
        with contextlib.suppress(secrets.SecretsError):  # `keys` tells
            secrets.load()
        check = judge.endpoints(longrl)
        yield Finding("judge", check.status, check.detail)
