"""Check a run's configuration, machine, model and data before anything is started: one line for each check.

Every check gives a `Check`, a failure with the value that is wrong and its fix. No check stops the others, so one run
shows all problems. What cannot be known yet (no Ray cluster, no GPU during a dry run) is a warning.
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
    suites,
)
from recipe.longrl.preflight.check import Check, collect, failed, show
from recipe.longrl.preflight.nodes import gpu_software

__all__ = ["Check", "derive_settings", "failed", "run", "show"]


def derive_settings(config: DictConfig, dry_run: bool = False) -> tuple[Any, list[Check]]:
    """Fill in, in place, what a resolved configuration leaves open (`derived_settings`, whose SettingsError this
    raises). Returns the model's Hugging Face config, None if it cannot be read, and the lines about it."""
    shape, problems = model.read_model_config("model", config.actor_rollout_ref.model, dry_run)
    lengths = list(derived_settings.derive_lengths(config, shape, data.count_longest_prompt))
    return shape, [*problems, *lengths, *collect("sizes", lambda: derived_settings.derive_sizes(config, shape))]


def run(config: DictConfig, dry_run: bool = False, python: str | None = None) -> list[Check]:
    """All checks of a resolved configuration, in the order in which a user meets the problems. Sets, in place, what
    depends on the model: what is left open (`derive_settings`), the engine and the attention.

    dry_run: nothing will be started, so what only another machine has (its GPUs, its versions) is a warning. python:
    the interpreter to start processes with, if not this one.
    """
    longrl = LongRLConfig.from_dict(settings.plain(config.longrl))
    shape, derived = derive_settings(config, dry_run)
    with model_loading.VllmProbe(config, python) as vllm_probe:
        checks = [
            *collect("environment", lambda: environment.check_environment(config, dry_run)),
            *collect("logger", lambda: loggers.check_loggers(config, dry_run)),
            *collect("run folder", lambda: folder.check_run_folder(config, dry_run)),
            *derived,
            *collect("batch", lambda: batch.check_batch(config)),
            *collect("cluster", lambda: cluster.check_cluster(config, dry_run)),
        ]
        checks += collect("engine", lambda: engine_choice.decide_engine(config, shape))
        checks += collect("attention", lambda: flash_attention.choose_attention(config, dry_run))
        checks += collect("GPU software", lambda: gpu_software.check_gpu_software_here(config, dry_run))
        if shape is not None:
            checks += collect("model", lambda: model.check_model(config, shape))
            checks += collect("trainer model", lambda: model_loading.check_trainer_model(config, shape))
        rows: dict[str, int] = {}
        checks += collect("data", lambda: data.check_data(config, longrl, rows, dry_run))
        checks += collect("plan", lambda: plan.check_plan(config, longrl, rows))
        if shape is not None:
            planned = plan.make_plan(config, longrl, rows["train_files"]) if "train_files" in rows else None
            checks += collect("memory", lambda: memory_fit.check_memory(config, longrl, shape, dry_run, planned))
        checks += collect("evaluate", lambda: suites.check_suites(config, longrl, dry_run))
        checks += collect("judge", lambda: judge.check_judge(config, longrl))
        if shape is not None:
            checks += collect("rollout engine", lambda: [model_loading.check_rollout_engine(config, vllm_probe)])
    return checks
