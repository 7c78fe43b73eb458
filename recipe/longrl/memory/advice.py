"""What does not fit, and what to change."""

from typing import NamedTuple

from omegaconf import DictConfig

from recipe.longrl.memory.estimate import Sizes, margin_gib
from recipe.longrl.parallelism import n_gpus, parallel


class Shortage(NamedTuple):
    """A phase that needs more memory than there is. fixes: overrides, or what to do with keys, of actor_rollout_ref."""

    phase: str
    fixes: list[str]


def shortages(config: DictConfig, sizes: Sizes, gpu_gib: float) -> list[Shortage]:
    """The phases that do not fit, with the margin; empty where all fit."""
    room = gpu_gib - margin_gib(config)
    longest = config.data.max_prompt_length + config.data.max_response_length
    on_cpu = config.trainer.device == "cpu"
    return [
        shortage
        for missing, shortage in (
            (sizes.update_peak > room, Shortage("update", training(config, sizes, gpu_gib))),
            (sizes.log_prob_peak > room, Shortage("log-probs", training(config, sizes, gpu_gib))),
            (
                sizes.vllm + sizes.resident > room and not on_cpu,
                Shortage("generation", generation(config, sizes, gpu_gib)),
            ),
            (sizes.kv_tokens < longest, Shortage("KV cache", [cache(config)])),
        )
        if missing
    ]


def training(config: DictConfig, sizes: Sizes, gpu_gib: float) -> list[str]:
    """For the update and the log-probability pass, the cheapest first."""
    room, whole = gpu_gib - margin_gib(config), parallel(config).sequence
    longest = config.data.max_prompt_length + config.data.max_response_length
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    fixes = []
    if sizes.update_peak > room:
        if not config.actor_rollout_ref.model.enable_gradient_checkpointing:
            fixes.append("set model.enable_gradient_checkpointing=true")
        if actor.fsdp_config.get("use_no_sync_for_gradient_accumulation"):
            fixes.append("set actor.fsdp_config.use_no_sync_for_gradient_accumulation=false")
        if not actor.use_dynamic_bsz or actor.ppo_max_token_len_per_gpu * whole > longest:
            fixes.append("lower actor.ppo_max_token_len_per_gpu")
    if sizes.log_prob_peak > room:
        if not actor.use_dynamic_bsz or rollout.log_prob_max_token_len_per_gpu * whole > longest:
            fixes.append("lower rollout.log_prob_max_token_len_per_gpu")
        if not actor.fsdp_config.entropy_from_logits_with_chunking:
            fixes.append("set actor.entropy_from_logits_with_chunking=true")
    if whole < n_gpus(config):
        fixes.append("raise actor.ulysses_sequence_parallel_size (and lower the tokens per GPU with it)")
    if sizes.train_state > gpu_gib / 2:
        fixes.append("keep the state in host memory with actor.fsdp_config.offload_policy=true")
    return [*fixes, "take more GPUs (hardware=...)"]


def generation(config: DictConfig, sizes: Sizes, gpu_gib: float) -> list[str]:
    """For vLLM beside what of the trainer stays on the GPU."""
    fits = (gpu_gib - margin_gib(config) - sizes.resident) / gpu_gib
    fixes = [f"rollout.gpu_memory_utilization={int(fits * 100) / 100:g}"] if fits > 0.1 else []
    return [*fixes, "actor.fsdp_config.optimizer_offload=true", "actor.fsdp_config.param_offload=true"]


def cache(config: DictConfig) -> str:
    """For a KV cache that does not hold one longest sequence; the whole key."""
    if config.trainer.device == "cpu":
        return "raise ray_kwargs.ray_init.runtime_env.env_vars.VLLM_CPU_KVCACHE_SPACE (GiB)"
    return (
        "raise actor_rollout_ref.rollout.gpu_memory_utilization or tensor_model_parallel_size, or lower "
        "max_num_batched_tokens (vLLM's profile run)"
    )
