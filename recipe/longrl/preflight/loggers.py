"""Where metrics are logged to: every name in `trainer.logger` is one that the installed verl knows and can import.

verl finds out when the trainer has been set up, minutes after the start.
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
"""What a logger needs, where that is not a package of its name. `tracking` is verl's old name for wandb."""
VARIABLES = {"vemlp_wandb": ("VOLC_ACCESS_KEY_ID", "VOLC_SECRET_ACCESS_KEY", "MLP_TRACKING_REGION")}
"""What verl reads of the environment without a default."""


def checks(config: DictConfig, dry_run: bool) -> Iterator[Check]:
    """A line or two. dry_run: what only another machine has (a package, a key) is a warning."""
    if config.actor_rollout_ref.rollout.prometheus.enable:
        asked = "actor_rollout_ref.rollout.prometheus.enable=true has Prometheus ask vLLM's servers"
        fix = "leave it out; rollouts' lengths, times and prefills are in metrics.jsonl"
        yield Check("logger", "FAIL", f"{asked}, which want the run's key and would refuse it. Fix: {fix}")
    from verl.utils.tracking import Tracking

    asked, known = config.trainer.logger, Tracking.supported_backend
    names: list[Any] = list(asked) if isinstance(asked, list | ListConfig) else [asked]
    for name in names:
        if name not in known and name != "tracking":
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ";"
            yield Check("logger", "FAIL", f"trainer.logger has {name!r}{hint} verl knows {', '.join(known)}")
            return
    problems = [problem for name in names if (problem := _not_ready(name))]
    if problems:
        yield Check("logger", "warn" if dry_run else "FAIL", "; ".join(problems))
    elif {"wandb", "tracking"} & set(names) and not _wandb_key():
        detail = "wandb has no key here, and without a terminal cannot ask for it: run `wandb login`, or set"
        yield Check("logger", "warn", f"{detail} WANDB_API_KEY, or WANDB_MODE=offline")
    else:
        yield Check("logger", "ok", ", ".join(names) or "none")


def _not_ready(name: str) -> str | None:
    package = PACKAGES.get(name, name)
    if package is not None and importlib.util.find_spec(package) is None:
        return f"trainer.logger has {name}, whose package {package} is not installed; install it, or leave {name} out"
    missing = [variable for variable in VARIABLES.get(name, ()) if variable not in os.environ]
    return f"trainer.logger has {name}, which needs {', '.join(missing)} in the environment" if missing else None


def _wandb_key() -> bool:
    """Whether wandb can start without asking: by a variable, or by what `wandb login` wrote."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    if os.environ.get("WANDB_MODE", "online") != "online":
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
