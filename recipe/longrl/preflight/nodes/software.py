"""Check a node's Python environment and LongRL sources against the driver's, and the judge from there."""

import hashlib
import platform
from collections.abc import Iterator
from pathlib import Path

from verl_longrl import secrets

from recipe.longrl.preflight import environment, judge
from recipe.longrl.preflight.check import Check
from recipe.longrl.preflight.nodes.probe_input import ProbeInput


def check_packages(probe_input: ProbeInput) -> Iterator[Check]:
    """Package versions, plugin and platform as the lock file has them; Python and LongRL's sources as the driver."""
    driver = probe_input.driver
    yield from environment.check_environment(probe_input.config, dry_run=False)
    for name, here, expected, fix in (
        ("Python", platform.python_version(), driver.python, "create the environment with the driver's Python"),
        ("LongRL's code", digest_sources(), driver.code, "check out the same commit on every node"),
    ):
        if here == expected:
            yield Check(name, "ok", f"{here}, the same as the driver's")
        else:
            yield Check(name, "FAIL", f"{here}, but the driver has {expected}. Fix: {fix}")


def digest_sources() -> str:
    """A digest of LongRL's Python files, as this process imports them."""
    import verl_longrl

    import recipe

    digest = hashlib.sha256()
    for package in (recipe, verl_longrl):
        root = Path(next(iter(package.__path__)))
        for path in sorted(root.rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def check_judge_from_node(probe_input: ProbeInput) -> Iterator[Check]:
    """The judge's endpoints, as a reward worker on this node reaches them; no line for a run without endpoints."""
    from verl_longrl.config import LongRLConfig

    from recipe.longrl.settings import plain

    longrl = LongRLConfig.from_dict(plain(probe_input.config.longrl))
    if longrl.reward.answer.by == "judge":
        try:
            secrets.load()
        except secrets.SecretsError as error:
            yield Check("judge", "FAIL", str(error))
        yield judge.check_endpoints(longrl)
