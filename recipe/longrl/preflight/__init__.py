"""Find the problem before anything is started: one line per check, each failure with its value and its fix.

Every check answers with a `Check`; none stops the others, so one run shows all that is wrong. What cannot be known yet
(no Ray cluster, no GPU during a dry run) is said, not assumed.
"""

from typing import Any

from omegaconf import DictConfig
from verl_longrl.config import LongRLConfig

from recipe.longrl import derived_settings, engine_choice, flash_attention, settings
from recipe.longrl.preflight import (
    batch,
    cluster,
    data,
    environment,
    folder,
    judge,
    loggers,
    memory_fit,
    model,
    model_loading,
    plan,
)
from recipe.longrl.preflight.check import Check, collect, failed, show
from recipe.longrl.preflight.nodes import gpu_software

__all__ = ["Check", "decide", "failed", "run", "show"]


def decide(config: DictConfig, dry_run: bool = False) -> tuple[Any, list[Check]]:
    """Fill in, in place, what a resolved configuration leaves open (`derived_settings`, whose SettingsError this
    raises). Returns the model's Hugging Face config, None if it cannot be read, and the lines that say all this."""
    shape, unreadable = model.read("model", config.actor_rollout_ref.model, dry_run)
    lengths = list(derived_settings.derive_lengths(config, shape, data.longest_prompt))
    return shape, [*unreadable, *lengths, *collect("sizes", lambda: derived_settings.derive_sizes(config, shape))]


def run(config: DictConfig, dry_run: bool = False, python: str | None = None) -> list[Check]:
    """All checks of a resolved configuration, in the order a user meets the problems. Decides on what depends on the
    model: what is left open (`decide`) and the engine.

    dry_run: nothing will be started, so what only another machine has (its GPUs, its versions) is a warning. python:
    what to start processes with, if not this one.
    """
    longrl = LongRLConfig.from_dict(settings.plain(config.longrl))
    shape, chosen = decide(config, dry_run)
    with model_loading.Asked(config, python) as vllm:
        checks = [
            *collect("environment", lambda: environment.checks(config, dry_run)),
            *collect("logger", lambda: loggers.checks(config, dry_run)),
            *collect("run folder", lambda: folder.checks(config, dry_run)),
            *chosen,
            *collect("batch", lambda: batch.checks(config)),
            *collect("cluster", lambda: cluster.checks(config, dry_run)),
        ]
        checks += collect("engine", lambda: engine_choice.decide_engine(config, shape))
        checks += collect("attention", lambda: flash_attention.choose_attention(config, dry_run))
        checks += collect("GPU software", lambda: gpu_software.here(config, dry_run))
        if shape is not None:
            checks += collect("model", lambda: model.checks(config, shape))
            checks += collect("trainer model", lambda: model_loading.trainer(config, shape))
        rows: dict[str, int] = {}
        checks += collect("data", lambda: data.checks(config, longrl, rows, dry_run))
        checks += collect("plan", lambda: plan.checks(config, longrl, rows))
        if shape is not None:
            planned = plan.of(config, longrl, rows["train_files"]) if "train_files" in rows else None
            checks += collect("memory", lambda: memory_fit.checks(config, longrl, shape, dry_run, planned))
        checks += collect("judge", lambda: judge.checks(config, longrl))
        if shape is not None:
            checks += collect("rollout engine", lambda: [model_loading.rollout(config, vllm)])
    return checks
