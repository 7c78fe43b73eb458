"""Find the problem before anything is started: one line per check, each failure with its value and its fix.

Every check answers with a `Check`; none stops the others, so one run shows all that is wrong. What cannot be known yet
(no Ray cluster, no GPU during a dry run) is said, not assumed.
"""

from typing import Any

from omegaconf import DictConfig
from verl_longrl.config import LongRLConfig

from recipe.longrl import derived, engine, settings
from recipe.longrl.preflight import batch, cluster, data, environment, folder, judge, model, sizes
from recipe.longrl.preflight.check import Check, collect, failed, show

__all__ = ["Check", "decide", "failed", "run", "show"]


def decide(config: DictConfig) -> tuple[Any, list[Check]]:
    """Fill in, in place, what a resolved configuration leaves open (`recipe.longrl.derived`, whose SettingsError this
    raises). Returns the model's Hugging Face config, None if it cannot be read, and the lines that say all this."""
    shape, unreadable = model.read("model", config.actor_rollout_ref.model)
    lengths = list(derived.lengths(config, shape, data.longest_prompt))
    return shape, [*unreadable, *lengths, *collect("sizes", lambda: derived.sizes(config, shape))]


def run(config: DictConfig, dry_run: bool = False) -> list[Check]:
    """All checks of a resolved configuration, in the order a user meets the problems. Decides on what depends on the
    model: what is left open (`decide`) and the engine.

    dry_run: nothing will be started, so what only another machine has (its GPUs, its versions) is a warning.
    """
    longrl = LongRLConfig.from_dict(settings.plain(config.longrl))
    shape, chosen = decide(config)
    checks = [
        *collect("environment", lambda: environment.checks(config, dry_run)),
        *collect("run folder", lambda: folder.checks(config)),
        *chosen,
        *collect("batch", lambda: batch.checks(config)),
        *collect("cluster", lambda: cluster.checks(config, dry_run)),
    ]
    checks += collect("engine", lambda: engine.decide(config, shape))
    if shape is not None:
        checks += collect("model", lambda: model.checks(config, shape))
    checks += collect("data", lambda: data.checks(config, longrl))
    if shape is not None:
        checks += collect("memory", lambda: sizes.checks(config, longrl, shape, dry_run))
    return checks + collect("judge", lambda: judge.checks(config, longrl))
