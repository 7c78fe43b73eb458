"""Batch and parallelism arithmetic: what verl would refuse, or trip over, after minutes of starting."""

import contextlib
import io
import warnings
from collections.abc import Iterator

from omegaconf import DictConfig

from recipe.longrl.parallelism import n_gpus, parallel
from recipe.longrl.preflight.check import Check


def checks(config: DictConfig) -> Iterator[Check]:
    """The first thing that does not divide or fit, else one line with the arithmetic."""
    problem = _parallelism(config)
    if problem is not None:
        yield Check("parallelism", "FAIL", problem)
        return
    problem = _rows(config) or _tokens(config) or _upstream(config)
    if problem is not None:
        yield Check("batch", "FAIL", problem)
        return
    actor, rollout, data = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout, config.data
    devices, trainer = n_gpus(config), parallel(config)
    shares = f"data parallel {devices // trainer.rank} x sequence parallel {trainer.sequence}"
    if trainer.model > 1:
        shares += f" x model parallel {trainer.model}"
    kept = (
        "" if config.algorithm.filter_groups.enable else "; groups of equal rewards are kept (algorithm.filter_groups)"
    )
    yield Check(
        "batch",
        "ok",
        f"{data.train_batch_size} prompts x {rollout.n} rollouts, mini-batches of {actor.ppo_mini_batch_size} prompts; "
        f"{devices} devices = {shares}, {devices // rollout.tensor_model_parallel_size} vLLM replicas{kept}",
    )


def _parallelism(config: DictConfig) -> str | None:
    devices, trainer = n_gpus(config), parallel(config)
    for key, size in (
        (trainer.sequence_key, trainer.sequence),
        ("rollout.tensor_model_parallel_size", config.actor_rollout_ref.rollout.tensor_model_parallel_size),
    ):
        if devices % size:
            return f"actor_rollout_ref.{key} = {size} does not divide {devices} GPUs"
    if devices % trainer.rank:
        return (
            f"actor_rollout_ref.{trainer.sequence_key} = {trainer.sequence} times model parallel {trainer.model} "
            f"(actor.megatron: tensor x pipeline) does not divide {devices} GPUs"
        )
    if trainer.sequence > 1 and not config.actor_rollout_ref.model.use_remove_padding:
        return (
            f"actor_rollout_ref.{trainer.sequence_key} = {trainer.sequence} needs "
            "actor_rollout_ref.model.use_remove_padding=true"
        )
    return None


def _rows(config: DictConfig) -> str | None:
    actor, rollout, data = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout, config.data
    if rollout.n < 2 and config.algorithm.filter_groups.enable:
        return (
            "algorithm.filter_groups replaces groups of equal rewards, as all are with actor_rollout_ref.rollout.n = "
            f"{rollout.n}; raise rollout.n, or set algorithm.filter_groups.enable=false"
        )
    ranks = n_gpus(config) // parallel(config).rank
    rows = actor.ppo_mini_batch_size * rollout.n
    if rows % ranks:
        return (
            f"a mini-batch of {actor.ppo_mini_batch_size} prompts x {rollout.n} rollouts = {rows} rows does not divide "
            f"over {ranks} data-parallel ranks; change actor_rollout_ref.actor.ppo_mini_batch_size or rollout.n"
        )
    if data.train_batch_size % actor.ppo_mini_batch_size:
        return (
            f"data.train_batch_size = {data.train_batch_size} is no multiple of actor_rollout_ref.actor."
            f"ppo_mini_batch_size = {actor.ppo_mini_batch_size}"
        )
    return None


def _tokens(config: DictConfig) -> str | None:
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    longest, shared = config.data.max_prompt_length + config.data.max_response_length, parallel(config).sequence
    for key, budget in (
        ("actor.ppo_max_token_len_per_gpu", actor.ppo_max_token_len_per_gpu),
        ("rollout.log_prob_max_token_len_per_gpu", rollout.log_prob_max_token_len_per_gpu),
    ):
        if actor.use_dynamic_bsz and budget * shared < longest:
            return (
                f"actor_rollout_ref.{key} = {budget} x sequence parallel {shared} = {budget * shared} tokens is "
                f"less than one sequence of {longest}; raise it to at least {-(-longest // shared)}"
            )
    return None


def _upstream(config: DictConfig) -> str | None:
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # it prints that all is well
            warnings.simplefilter("ignore")
            validate_config(config, need_reference_policy(config), need_critic(config))
    except (AssertionError, ValueError) as error:
        return f"verl refuses the configuration: {error}"
    return None
