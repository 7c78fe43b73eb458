"""Check that batch sizes, token budgets and parallel sizes divide and fit, which verl finds out minutes later."""

import contextlib
import io
import warnings
from collections.abc import Iterator

from omegaconf import DictConfig

from recipe.longrl.parallelism import n_gpus, parallel
from recipe.longrl.preflight.check import Check


def check_batch(config: DictConfig) -> Iterator[Check]:
    """One line: the first size that does not divide or fit, else the arithmetic."""
    problem = find_parallel_problem(config)
    if problem is not None:
        yield Check("parallelism", "FAIL", problem)
        return
    problem = _check_rows(config) or find_budget_problem(config) or _validate_with_verl(config)
    if problem is not None:
        yield Check("batch", "FAIL", problem)
        return
    actor, rollout, data = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout, config.data
    devices, trainer = n_gpus(config), parallel(config)
    shares = f"data parallel {devices // trainer.rank} x sequence parallel {trainer.sequence}"
    if trainer.model > 1:
        shares += f" x model parallel {trainer.model}"
    filtering = "" if config.algorithm.filter_groups.enable else "; groups of equal rewards are not filtered"
    yield Check(
        "batch",
        "ok",
        f"{data.train_batch_size} prompts x {rollout.n} rollouts, mini-batches of {actor.ppo_mini_batch_size} prompts; "
        f"{devices} devices = {shares}, {devices // rollout.tensor_model_parallel_size} vLLM replicas{filtering}",
    )


def find_parallel_problem(config: DictConfig) -> str | None:
    """A parallel size that does not divide the GPUs, with the fix; None if all do."""
    devices, trainer = n_gpus(config), parallel(config)
    for key, size in (
        (trainer.sequence_key, trainer.sequence),
        ("rollout.tensor_model_parallel_size", config.actor_rollout_ref.rollout.tensor_model_parallel_size),
    ):
        if devices % size:
            return f"actor_rollout_ref.{key} = {size}: must divide {devices} GPUs"
    if devices % trainer.rank:
        return (
            f"actor_rollout_ref.{trainer.sequence_key} = {trainer.sequence}: times model parallel {trainer.model} "
            f"(actor.megatron: tensor x pipeline) it must divide {devices} GPUs"
        )
    if trainer.sequence > 1 and not config.actor_rollout_ref.model.use_remove_padding:
        return (
            f"actor_rollout_ref.{trainer.sequence_key} = {trainer.sequence}: needs sequences without padding. Fix: "
            "actor_rollout_ref.model.use_remove_padding=true"
        )
    return None


def _check_rows(config: DictConfig) -> str | None:
    actor, rollout, data = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout, config.data
    if rollout.n < 2 and config.algorithm.filter_groups.enable:
        return (
            f"actor_rollout_ref.rollout.n = {rollout.n}: all groups would be filtered, because a group of one rollout "
            "has equal rewards. Fix: raise rollout.n, or set algorithm.filter_groups.enable=false"
        )
    ranks = n_gpus(config) // parallel(config).rank
    rows = actor.ppo_mini_batch_size * rollout.n
    if rows % ranks:
        return (
            f"actor_rollout_ref.actor.ppo_mini_batch_size = {actor.ppo_mini_batch_size}: x {rollout.n} rollouts = "
            f"{rows} rows must be a multiple of the {ranks} data-parallel ranks. Fix: change it, or rollout.n"
        )
    if data.train_batch_size % actor.ppo_mini_batch_size:
        return (
            f"data.train_batch_size = {data.train_batch_size}: must be a multiple of actor_rollout_ref.actor."
            f"ppo_mini_batch_size = {actor.ppo_mini_batch_size}"
        )
    return None


def find_budget_problem(config: DictConfig) -> str | None:
    """A token budget that is smaller than one sequence, with the fix; None if all are large enough."""
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    longest, shared = config.data.max_prompt_length + config.data.max_response_length, parallel(config).sequence
    for key, budget in (
        ("actor.ppo_max_token_len_per_gpu", actor.ppo_max_token_len_per_gpu),
        ("rollout.log_prob_max_token_len_per_gpu", rollout.log_prob_max_token_len_per_gpu),
    ):
        if actor.use_dynamic_bsz and budget * shared < longest:
            return (
                f"actor_rollout_ref.{key} = {budget}: x sequence parallel {shared} = {budget * shared} tokens, less "
                f"than one sequence of {longest}. Fix: at least {-(-longest // shared)}"
            )
    return None


def _validate_with_verl(config: DictConfig) -> str | None:
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    try:
        # verl prints a line when the configuration is valid.
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            validate_config(config, need_reference_policy(config), need_critic(config))
    except (AssertionError, ValueError) as error:
        return f"verl refuses the configuration: {error}"
    return None
