"""Find the phases of a step that do not fit into memory, and suggest what to change."""

from typing import NamedTuple

from omegaconf import DictConfig

from recipe.longrl.memory.estimate import Sizes, margin_gib
from recipe.longrl.parallelism import n_gpus, parallel


class Shortage(NamedTuple):
    """A phase that needs more memory than a device has.

    fixes: overrides, or instructions for keys, below actor_rollout_ref.
    """

    phase: str
    fixes: list[str]


def find_shortages(config: DictConfig, sizes: Sizes, gpu_gib: float) -> list[Shortage]:
    """The phases that do not fit if margin_gib is left free; empty if all fit."""
    room = gpu_gib - margin_gib(config)
    longest = config.data.max_prompt_length + config.data.max_response_length
    on_cpu = config.trainer.device == "cpu"
    shortages = []
    if sizes.update_peak > room:
        shortages.append(Shortage("update", training_fixes(config, sizes, gpu_gib)))
    if sizes.log_prob_peak > room:
        shortages.append(Shortage("log-probs", training_fixes(config, sizes, gpu_gib)))
    if sizes.vllm + sizes.resident > room and not on_cpu:
        shortages.append(Shortage("generation", generation_fixes(config, sizes, gpu_gib)))
    if sizes.kv_tokens < longest:
        shortages.append(Shortage("KV cache", [cache_fix(config)]))
    return shortages


def training_fixes(config: DictConfig, sizes: Sizes, gpu_gib: float) -> list[str]:
    """Fixes for the update and the log-probability pass, the cheapest first."""
    room, sequence_ranks = gpu_gib - margin_gib(config), parallel(config).sequence
    longest = config.data.max_prompt_length + config.data.max_response_length
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    fixes = []
    if sizes.update_peak > room:
        if not config.actor_rollout_ref.model.enable_gradient_checkpointing:
            fixes.append("set model.enable_gradient_checkpointing=true")
        if actor.fsdp_config.get("use_no_sync_for_gradient_accumulation"):
            fixes.append("set actor.fsdp_config.use_no_sync_for_gradient_accumulation=false")
        if not actor.use_dynamic_bsz or actor.ppo_max_token_len_per_gpu * sequence_ranks > longest:
            fixes.append("lower actor.ppo_max_token_len_per_gpu")
    if sizes.log_prob_peak > room:
        if not actor.use_dynamic_bsz or rollout.log_prob_max_token_len_per_gpu * sequence_ranks > longest:
            fixes.append("lower rollout.log_prob_max_token_len_per_gpu")
        if not actor.fsdp_config.entropy_from_logits_with_chunking:
            fixes.append("set actor.entropy_from_logits_with_chunking=true")
    if sequence_ranks < n_gpus(config):
        fixes.append("raise actor.ulysses_sequence_parallel_size (and lower the tokens per GPU accordingly)")
    if sizes.train_state > gpu_gib / 2:
        fixes.append("keep the state in host memory with actor.fsdp_config.offload_policy=true")
    return [*fixes, "use more GPUs (hardware=...)"]


def generation_fixes(config: DictConfig, sizes: Sizes, gpu_gib: float) -> list[str]:
    """Fixes for vLLM and the trainer's state that stays on the GPU during generation."""
    fits = (gpu_gib - margin_gib(config) - sizes.resident) / gpu_gib
    fixes = [f"rollout.gpu_memory_utilization={int(fits * 100) / 100:g}"] if fits > 0.1 else []
    return [*fixes, "actor.fsdp_config.optimizer_offload=true", "actor.fsdp_config.param_offload=true"]


def cache_fix(config: DictConfig) -> str:
    """The fix, with its full key, for a KV cache that cannot hold one sequence of the largest length."""
    if config.trainer.device == "cpu":
        return "raise ray_kwargs.ray_init.runtime_env.env_vars.VLLM_CPU_KVCACHE_SPACE (GiB)"
    return (
        "raise actor_rollout_ref.rollout.gpu_memory_utilization or tensor_model_parallel_size, or lower "
        "max_num_batched_tokens (vLLM's profile run)"
    )
