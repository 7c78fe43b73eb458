"""The estimate at several prompt lengths: which of them fit.

Responses stay as long as configured. Tokens per GPU are scaled so that a micro-batch holds one whole group of the
longest (P + n R tokens with the shared prompt), or, where the engine computes rows one by one or a group does not fit,
one longest row (P + R); the same for log-probabilities. The configured length keeps its configured tokens.
"""

from typing import NamedTuple

from omegaconf import DictConfig

from recipe.longrl.memory.advice import Shortage, shortages
from recipe.longrl.memory.estimate import Model, Sizes, estimate
from recipe.longrl.parallelism import n_gpus, parallel

LENGTHS = (16384, 32768, 65536, 131072)


class AtLength(NamedTuple):
    """One column of the table: the configuration with this length, its sizes, and what of it does not fit."""

    prompt: int
    config: DictConfig
    sizes: Sizes
    short: list[Shortage]


def at_lengths(config: DictConfig, shape: Model, gpu_gib: float, lengths: tuple[int, ...]) -> list[AtLength]:
    """The configured length first, then `lengths`."""
    return [
        _at(config, shape, gpu_gib),
        *(at_length(config, shape, gpu_gib, prompt) for prompt in lengths),
    ]


def at_length(config: DictConfig, shape: Model, gpu_gib: float, prompt: int) -> AtLength:
    """With prompts of this many tokens, and tokens per GPU to match."""
    response, n = config.data.max_response_length, config.actor_rollout_ref.rollout.n
    engine = _at(config, shape, gpu_gib).sizes.engine
    budgets = [prompt + n * response] * (engine == "shared_prompt") + [prompt + response]
    for budget in budgets:
        found = _at(with_length(config, prompt, budget), shape, gpu_gib)
        if not {"update", "log-probs"} & {shortage.phase for shortage in found.short}:
            break
    return found


def with_length(config: DictConfig, prompt: int, budget: int) -> DictConfig:
    """A copy with prompts of this many tokens and micro-batches of `budget`."""
    config = config.copy()
    config.data.max_prompt_length = prompt
    per_gpu = -(-budget // parallel(config).sequence)
    config.actor_rollout_ref.actor.ppo_max_token_len_per_gpu = per_gpu
    config.actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu = per_gpu
    return config


def _at(config: DictConfig, shape: Model, gpu_gib: float) -> AtLength:
    sizes = estimate(config, shape, gpu_gib, n_gpus(config))
    return AtLength(config.data.max_prompt_length, config, sizes, shortages(config, sizes, gpu_gib))
