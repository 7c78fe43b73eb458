"""Check a supervised run before it starts: one line for each check, as for any other run.

Settings that `hardware=cpu` leaves open are chosen here: one device, and as many tokens at once as `CPU_TOKENS` or one
longest demonstration.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from omegaconf import DictConfig, open_dict
from verl_longrl.config import LongRLConfig
from verl_longrl.data.demonstrations import DemonstrationEncoder, check_demonstrations, find_end_of_turn
from verl_longrl.data.prompt_lengths import CACHE_DIR
from verl_longrl.rewards import load_scorers

from recipe.longrl import derived_settings, engine_choice, flash_attention, memory, settings
from recipe.longrl.parallelism import n_gpus, parallel, uses_megatron
from recipe.longrl.preflight import (
    batch,
    data,
    disk,
    environment,
    folder,
    loggers,
    memory_fit,
    model,
    model_loading,
    plan,
)
from recipe.longrl.preflight.check import Check, collect, describe
from recipe.longrl.sft.options import PREFIX, SftOptions, apply_options

REQUIRED = ("data.train_files", "actor_rollout_ref.model.path")
CPU_TOKENS = 1024
"""Tokens of a micro-batch on a CPU, where more at once would take memory and save no time."""


class CheckedRun(NamedTuple):
    """The lines of the checks, and the steps of the run; None where the demonstrations cannot be counted."""

    checks: list[Check]
    steps: int | None


def check_run(config: DictConfig, options: SftOptions, dry_run: bool) -> CheckedRun:
    """Apply the options to a composed configuration, fill in what follows, in place, and check it.

    Raises SettingsError for what cannot be composed.
    """
    if not options.train_files:
        raise settings.SettingsError(f"{PREFIX}train_files must be given. Fix: {PREFIX}train_files=[demos.parquet]")
    apply_options(config, options)
    if uses_megatron(config):
        raise settings.SettingsError(
            "actor_rollout_ref.actor.strategy = megatron: supervised fine-tuning needs FSDP. Fix: hardware=8gpu, or "
            "another group without Megatron"
        )
    if config.trainer.nnodes > 1:
        raise settings.SettingsError(
            f"trainer.nnodes = {config.trainer.nnodes}: supervised fine-tuning runs on one node. Fix: trainer.nnodes=1"
        )
    longrl = settings.resolve(config, dry_run, required=REQUIRED)
    shape, problems = model.read_model_config("model", config.actor_rollout_ref.model, dry_run)
    lengths = list(derived_settings.derive_lengths(config, shape, data.count_longest_prompt))
    _derive_sizes(config)
    rows: dict[str, int] = {}
    checks = [
        *collect("environment", lambda: environment.check_environment(config, dry_run)),
        *collect("logger", lambda: loggers.check_loggers(config, dry_run)),
        *collect("run folder", lambda: folder.check_run_folder(config, dry_run)),
        *problems,
        *lengths,
        *collect("batch", lambda: _check_batch(config)),
        *collect("engine", lambda: engine_choice.decide_engine(config, shape)),
        *collect("attention", lambda: flash_attention.choose_attention(config, dry_run)),
    ]
    if shape is not None:
        checks += collect("model", lambda: model.check_model(config, shape))
        checks += collect("trainer model", lambda: model_loading.check_trainer_model(config, shape))
    checks += collect("demonstrations", lambda: _check_files(config, longrl, options, rows, dry_run))
    checks += collect("plan", lambda: _check_plan(config, longrl, rows))
    planned = plan.make_plan(config, longrl, rows["train_files"]) if "train_files" in rows else None
    if shape is not None:
        checks += collect("memory", lambda: _check_memory(config, longrl, shape, dry_run, planned))
    return CheckedRun(checks, planned.steps if planned is not None and planned.epoch else None)


def _derive_sizes(config: DictConfig) -> None:
    actor, trainer, lengths = config.actor_rollout_ref.actor, config.trainer, config.data
    with open_dict(config):
        if trainer.n_gpus_per_node is None:
            trainer.n_gpus_per_node = 1
        if actor.ppo_max_token_len_per_gpu is None:
            longest = lengths.max_prompt_length + lengths.max_response_length
            actor.ppo_max_token_len_per_gpu = max(CPU_TOKENS, -(-longest // parallel(config).sequence))


def _check_batch(config: DictConfig) -> Iterator[Check]:
    if problem := batch.find_parallel_problem(config) or batch.find_budget_problem(config):
        yield Check("batch", "FAIL", problem)
        return
    rows, ranks = config.data.train_batch_size, n_gpus(config) // parallel(config).rank
    if rows % ranks:
        detail = f"{PREFIX}batch_size = {rows}: must be a multiple of the {ranks} data-parallel ranks"
        yield Check("batch", "FAIL", f"{detail}. Fix: {PREFIX}batch_size={ranks * -(-rows // ranks)}")
        return
    shares = f"data parallel {ranks} x sequence parallel {parallel(config).sequence}"
    yield Check("batch", "ok", f"{rows} demonstrations; {n_gpus(config)} devices = {shares}")


def _check_files(
    config: DictConfig, longrl: LongRLConfig, options: SftOptions, rows: dict[str, int], dry_run: bool
) -> Iterator[Check]:
    """A line for each file. Sets `rows`, and the token that ends a response, in place."""
    tokenizer, problem = data.load_tokenizer(config.actor_rollout_ref.model, dry_run)
    if problem is not None:
        yield problem
        return
    try:
        load_scorers(longrl.reward.scorers)
    except ImportError as error:
        yield Check("scorers", "FAIL", f"longrl.reward.scorers = {list(longrl.reward.scorers)}: {error}")
        return
    template = settings.plain(config.data.apply_chat_template_kwargs)
    try:
        end_of_turn = find_end_of_turn(tokenizer, _generation_eos(config.actor_rollout_ref.model), template)
    except Exception as error:  # noqa: BLE001  a chat template is a program, and raises anything
        yield Check("tokenizer", "FAIL", f"no token ends a response: {describe(error)}")
        return
    with open_dict(config):
        config.data.end_of_turn = end_of_turn
    yield Check("end of turn", "ok", f"{tokenizer.convert_ids_to_tokens(end_of_turn)} ends a response, as in rollouts")
    encoder = DemonstrationEncoder(tokenizer, end_of_turn, template)
    for split in ("train_files", "val_files"):
        count: int | None = 0
        for file in config.data[split]:
            report = check_demonstrations(
                file,
                longrl.reward,
                encoder=encoder,
                max_prompt_length=config.data.max_prompt_length,
                max_response_length=config.data.max_response_length,
                max_imperfect=options.max_imperfect,
                max_errors=5,
                cache_dir=config.data.get("cache_dir") or CACHE_DIR,
            )
            name = PREFIX + split
            yield Check(name, "ok" if report.ok else "FAIL", "\n".join(report.lines()))
            if report.ok:
                yield from (Check(name, "warn", line) for line in report.warnings)
            count = count + report.rows if count is not None and report.ok else None
        if count is not None:
            rows[split] = count


def _generation_eos(node: DictConfig) -> Any:
    """`eos_token_id` of the model's generation config, which vLLM stops at too; None without one."""
    from transformers import GenerationConfig

    try:
        return GenerationConfig.from_pretrained(node.hf_config_path or node.path).eos_token_id
    except OSError:
        return None


def _check_plan(config: DictConfig, longrl: LongRLConfig, rows: dict[str, int]) -> Iterator[Check]:
    count, size = rows.get("train_files"), config.data.train_batch_size
    if count is not None and count < size:
        detail = f"{PREFIX}batch_size = {size}: only {count} demonstrations, fewer than one batch"
        yield Check("plan", "FAIL", f"{detail}. Fix: {PREFIX}batch_size={count}, or more demonstrations")
        return
    yield from plan.check_plan(config, longrl, rows)


def _check_memory(
    config: DictConfig, longrl: LongRLConfig, shape: Any, dry_run: bool, planned: plan.TrainingPlan | None
) -> Iterator[Check]:
    gpu_gib = memory.device_gib(config, longrl.gpu_memory_gib)
    sizes = memory.estimate(config, memory.ModelSizes.of(shape), gpu_gib, n_gpus(config))
    yield memory_fit.check_training(config, sizes, gpu_gib)
    yield from disk.check_disk(config, longrl, sizes, dry_run, planned)
