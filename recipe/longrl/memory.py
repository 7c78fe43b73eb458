"""What a run needs per GPU, from the model's shape and the configuration: an estimate to refuse the hopeless.

Counted exactly: parameters (on the meta device), optimizer state, KV cache per token. Estimated: activations with
checkpointing (one hidden state per layer, plus one layer's working set) and logits. Not counted: allocator
fragmentation, CUDA context, NCCL buffers (together 2 to 4 GiB). All sizes in GiB.
"""

from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

GIB = 2**30
_WORKING_SET = 18  # hidden-sized tensors alive inside one layer's recomputation (attention and gated MLP)


@dataclass(frozen=True)
class Sizes:
    """Per-GPU sizes in GiB, and what the KV cache holds."""

    parameters: int
    train_state: float
    activations: float
    logits: float
    rollout_weights: float
    kv_bytes_per_token: int
    kv_cache: float
    host_offload: float

    @property
    def update_peak(self) -> float:
        """Peak of the actor update, in GiB."""
        return self.train_state + self.activations + self.logits

    @property
    def kv_tokens(self) -> int:
        """Tokens that fit into one vLLM replica's KV cache."""
        return int(self.kv_cache * GIB / self.kv_bytes_per_token)


def count_parameters(model_config: Any) -> int:
    """Number of parameters of a Hugging Face causal LM, without allocating any."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return sum(p.numel() for p in AutoModelForCausalLM.from_config(model_config).parameters())


def estimate(config: DictConfig, model_config: Any, gpu_gib: float, n_gpus: int) -> Sizes:
    """Sizes for this configuration.

    model_config: the model's Hugging Face config. gpu_gib: memory of one GPU. n_gpus: GPUs of the trainer.
    """
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    parameters = count_parameters(model_config)
    hidden, layers, vocabulary = (
        model_config.hidden_size,
        model_config.num_hidden_layers,
        model_config.vocab_size,
    )
    head_dim = getattr(model_config, "head_dim", None) or hidden // model_config.num_attention_heads
    fsdp = n_gpus if actor.fsdp_config.fsdp_size in (-1, None) else actor.fsdp_config.fsdp_size
    precision = actor.fsdp_config.get("mixed_precision") or {}
    compute = 4 if precision.get("param_dtype") == "fp32" else 2
    tokens = actor.ppo_max_token_len_per_gpu

    master_and_gradients, optimizer = 4 + 4, 8
    resident = 0 if actor.fsdp_config.param_offload else master_and_gradients
    resident += 0 if actor.fsdp_config.optimizer_offload else optimizer
    offloaded = master_and_gradients + optimizer - resident
    # The update needs everything on the device, offloaded or not.
    train_state = parameters * (master_and_gradients + optimizer) / fsdp
    kept = layers if config.actor_rollout_ref.model.enable_gradient_checkpointing else layers * _WORKING_SET
    activations = tokens * hidden * compute * (kept + _WORKING_SET)
    logits = tokens * vocabulary * (compute + 4 + 4)

    tensor_parallel = rollout.tensor_model_parallel_size
    rollout_bytes = 4 if rollout.dtype == "float32" else 2
    rollout_weights = parameters * rollout_bytes / tensor_parallel
    kv_heads = max(1, model_config.num_key_value_heads // tensor_parallel)
    kv_bytes = 2 * layers * kv_heads * head_dim * rollout_bytes
    return Sizes(
        parameters=parameters,
        train_state=train_state / GIB,
        activations=activations / GIB,
        logits=logits / GIB,
        rollout_weights=rollout_weights / GIB,
        kv_bytes_per_token=kv_bytes,
        kv_cache=_kv_cache(config, gpu_gib, rollout_weights / GIB),
        host_offload=parameters * offloaded / fsdp * config.trainer.n_gpus_per_node / GIB,
    )


def _kv_cache(config: DictConfig, gpu_gib: float, rollout_weights: float) -> float:
    """GiB of one device that vLLM gives to the KV cache; on the CPU a variable of its own says so."""
    if config.trainer.device == "cpu":
        return float(config.ray_kwargs.ray_init.runtime_env.env_vars.VLLM_CPU_KVCACHE_SPACE)
    return max(0.0, gpu_gib * config.actor_rollout_ref.rollout.gpu_memory_utilization - rollout_weights)


def count(parameters: int) -> str:
    """A number of parameters as people say it: 7.62B, 0.5M."""
    return f"{parameters / 1e9:.2f}B" if parameters >= 1e8 else f"{parameters / 1e6:.1f}M"
