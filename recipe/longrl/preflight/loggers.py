"""Check that the installed verl knows, and can import, every logger in `trainer.logger`.

verl itself finds out when the trainer has been set up, minutes after the start.
"""

import difflib
import importlib.util
import netrc
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from omegaconf import DictConfig, ListConfig

from recipe.longrl.preflight.check import Check

PACKAGES = {"vemlp_wandb": "volcengine_ml_platform", "tracking": "wandb", "console": None, "file": None}
"""Logger -> the package it needs, if that has another name. `tracking` is verl's old name for wandb."""
VARIABLES = {"vemlp_wandb": ("VOLC_ACCESS_KEY_ID", "VOLC_SECRET_ACCESS_KEY", "MLP_TRACKING_REGION")}
"""Logger -> environment variables that verl reads without a default."""


def check_loggers(config: DictConfig, dry_run: bool) -> Iterator[Check]:
    """One or two lines. dry_run: what another machine may have (a package, a key) is a warning."""
    if config.actor_rollout_ref.rollout.prometheus.enable:
        detail = (
            "actor_rollout_ref.rollout.prometheus.enable = true: vLLM's servers require the run's key, and Prometheus "
            "does not have it"
        )
        fix = "leave it out: lengths, times and prefills of rollouts are in metrics.jsonl"
        yield Check("logger", "FAIL", f"{detail}. Fix: {fix}")
    from verl.utils.tracking import Tracking

    loggers, known = config.trainer.logger, Tracking.supported_backend
    names: list[Any] = list(loggers) if isinstance(loggers, list | ListConfig) else [loggers]
    for name in names:
        if name not in known and name != "tracking":
            nearest = difflib.get_close_matches(str(name), known, n=1)
            fix = f"did you mean {nearest[0]}? " if nearest else ""
            yield Check("logger", "FAIL", f"trainer.logger = {name!r}: unknown. Fix: {fix}verl has {', '.join(known)}")
            return
    problems = [problem for name in names if (problem := _find_problem(name))]
    if problems:
        yield Check("logger", "warn" if dry_run else "FAIL", "; ".join(problems))
    elif {"wandb", "tracking"} & set(names) and not _has_wandb_key():
        detail = "wandb has no key here, and cannot ask for it without a terminal"
        yield Check("logger", "warn", f"{detail}. Fix: run `wandb login`, or set WANDB_API_KEY, or WANDB_MODE=offline")
    else:
        yield Check("logger", "ok", ", ".join(names) or "none")


def _find_problem(name: str) -> str | None:
    """Why verl could not use a logger that it knows."""
    package = PACKAGES.get(name, name)
    if package is not None and importlib.util.find_spec(package) is None:
        return f"trainer.logger = {name}: package {package} is not installed. Fix: install it, or leave {name} out"
    missing = [variable for variable in VARIABLES.get(name, ()) if variable not in os.environ]
    return f"trainer.logger = {name}: needs {', '.join(missing)}. Fix: set them in the environment" if missing else None


def _has_wandb_key() -> bool:
    """Whether wandb can start without a question: by a variable, or by the file that `wandb login` wrote."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    if os.environ.get("WANDB_MODE", "online") != "online":
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
