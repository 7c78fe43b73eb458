"""Compute the estimate at several prompt lengths, and which of them fit.

Responses stay as long as configured. Tokens per GPU are scaled so that a micro-batch holds one whole group of the
largest lengths (P + n R tokens with the shared prompt), or one row (P + R) if the engine computes rows one by one or a
group does not fit; likewise for log-probabilities. The configured length keeps its configured tokens.
"""

from typing import NamedTuple

from omegaconf import DictConfig

from recipe.longrl.memory.advice import Shortage, find_shortages
from recipe.longrl.memory.estimate import ModelSizes, Sizes, estimate
from recipe.longrl.parallelism import n_gpus, parallel

LENGTHS = (16384, 32768, 65536, 131072)


class LengthEstimate(NamedTuple):
    """One column of the table: the configuration with this prompt length, its sizes, and the phases that do not fit."""

    prompt: int
    config: DictConfig
    sizes: Sizes
    shortages: list[Shortage]


def estimate_lengths(
    config: DictConfig, shape: ModelSizes, gpu_gib: float, lengths: tuple[int, ...]
) -> list[LengthEstimate]:
    """Estimates for the configured prompt length, then for `lengths`."""
    return [
        _estimate_config(config, shape, gpu_gib),
        *(estimate_length(config, shape, gpu_gib, prompt) for prompt in lengths),
    ]


def estimate_length(config: DictConfig, shape: ModelSizes, gpu_gib: float, prompt: int) -> LengthEstimate:
    """The estimate for prompts of this many tokens, with tokens per GPU to match."""
    response, n = config.data.max_response_length, config.actor_rollout_ref.rollout.n
    engine = _estimate_config(config, shape, gpu_gib).sizes.engine
    budgets = [prompt + n * response] * (engine == "shared_prompt") + [prompt + response]
    for budget in budgets:
        result = _estimate_config(set_length(config, prompt, budget), shape, gpu_gib)
        if not {"update", "log-probs"} & {shortage.phase for shortage in result.shortages}:
            break
    return result


def set_length(config: DictConfig, prompt: int, budget: int) -> DictConfig:
    """A copy of the configuration with prompts of this many tokens and micro-batches of `budget` tokens."""
    config = config.copy()
    config.data.max_prompt_length = prompt
    per_gpu = -(-budget // parallel(config).sequence)
    config.actor_rollout_ref.actor.ppo_max_token_len_per_gpu = per_gpu
    config.actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu = per_gpu
    return config


def _estimate_config(config: DictConfig, shape: ModelSizes, gpu_gib: float) -> LengthEstimate:
    sizes = estimate(config, shape, gpu_gib, n_gpus(config))
    return LengthEstimate(config.data.max_prompt_length, config, sizes, find_shortages(config, sizes, gpu_gib))
