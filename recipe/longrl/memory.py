"""What a run needs per GPU, from the model's shape and the configuration: an estimate to refuse the hopeless.

Counted exactly: parameters (on the meta device), optimizer state, KV cache per token. Estimated, after what verl's
FSDP engine does: activations with checkpointing (one hidden state per layer, plus one layer's working set), the layers
that FSDP has gathered, and logits (`_logits`). Not counted: allocator fragmentation, CUDA context, NCCL buffers
(`MARGIN_GIB`). Sizes are in GiB; names of local variables without a unit are bytes.
"""

from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from recipe.longrl.parallel import parallel

GIB = 2**30
MARGIN_GIB = 4.0
"""What the estimate leaves out; a run that comes closer to the GPU's memory than this may fail."""
_FUSED_CHUNK = 512  # tokens at a time in verl's FusedLinearForPPO
_CHUNK_BYTES = 16  # per entry of a chunk: its logits, softmax, product and exponentials, in float32


@dataclass(frozen=True)
class Sizes:
    """Per-GPU sizes in GiB, what the KV cache holds, and host memory in GiB per node.

    train_state: parameters, gradients and optimizer during the update. resident: what of it stays on the GPU while
    vLLM generates. update_peak, log_prob_peak: peaks of the actor's two passes. vllm: what vLLM claims. checkpoint:
    the files of all ranks. host: a node's memory for reading the weights and for what is offloaded.
    """

    parameters: int
    train_state: float
    resident: float
    activations: float
    logits: float
    update_peak: float
    log_prob_peak: float
    vllm: float
    rollout_weights: float
    kv_bytes_per_token: int
    kv_cache: float
    checkpoint: float
    host: float

    @property
    def kv_tokens(self) -> int:
        """Tokens that fit into one vLLM replica's KV cache."""
        return int(self.kv_cache * GIB / self.kv_bytes_per_token)


@dataclass(frozen=True)
class _State:
    """Bytes of master weights, gradients and Adam's moments of one rank, and where they rest (`fsdp_config`)."""

    weights: float
    gradients: float
    moments: float
    fsdp: DictConfig

    @property
    def training(self) -> float:
        """On the GPU during the update: all of it, unless `offload_policy` brings it there layer by layer."""
        return 0.0 if self.fsdp.offload_policy else self.weights + self.gradients + self.moments

    @property
    def scoring(self) -> float:
        """On the GPU while log-probabilities are computed."""
        return 0.0 if self.fsdp.offload_policy else self.weights + self.moments * (not self.fsdp.optimizer_offload)

    @property
    def resident(self) -> float:
        """On the GPU while vLLM generates."""
        return self.scoring - (0.0 if self.fsdp.offload_policy else self.weights * self.fsdp.param_offload)

    @property
    def on_host(self) -> float:
        """Off the GPU, at the moment most of it is."""
        return self.weights + self.moments - self.resident + self.gradients * self.fsdp.offload_policy


def count_parameters(model_config: Any) -> int:
    """Number of parameters of the model verl makes of a Hugging Face config, without allocating any."""
    import torch
    from transformers import AutoModelForCausalLM
    from verl.utils.model import get_hf_auto_model_class

    named = getattr(model_config, "architectures", None)
    kind = get_hf_auto_model_class(model_config) if named else AutoModelForCausalLM
    with torch.device("meta"):
        model = kind.from_config(model_config, attn_implementation="eager")
    return sum(p.numel() for p in model.parameters())


def estimate(config: DictConfig, model_config: Any, gpu_gib: float, n_gpus: int) -> Sizes:
    """Sizes for this configuration.

    model_config: the model's Hugging Face config. gpu_gib: memory of one GPU. n_gpus: GPUs of the trainer.
    """
    from verl.trainer.ppo.utils import need_reference_policy

    model, actor, rollout = (config.actor_rollout_ref[name] for name in ("model", "actor", "rollout"))
    text, fsdp, parameters = model_config.get_text_config(), actor.fsdp_config, count_parameters(model_config)
    hidden, layers, vocabulary = text.hidden_size, text.num_hidden_layers, text.vocab_size
    tied = bool(getattr(model_config, "tie_word_embeddings", False))
    on_cpu = config.trainer.device == "cpu"

    shards = n_gpus if fsdp.fsdp_size in (-1, None) else fsdp.fsdp_size
    master = 2 if fsdp.model_dtype in ("bf16", "bfloat16", "fp16", "float16") else 4
    compute = 4 if (fsdp.get("mixed_precision") or {}).get("param_dtype") == "fp32" else 2
    trained = 0 if model.lora_rank > 0 else parameters  # adapters are next to nothing
    size = master / shards
    state = _State(weights=parameters * size, gradients=trained * size, moments=2 * trained * size, fsdp=fsdp)

    embeddings = vocabulary * hidden * (1 if tied else 2)
    gathered = (embeddings + 2 * (parameters - embeddings) / layers) * compute
    width = _layer_width(text)
    tokens, scored = _micro_batch_tokens(config)
    activations = tokens * hidden * compute * (layers * (1 if model.enable_gradient_checkpointing else width) + width)
    logits, scored_logits = _logits(config, vocabulary, compute, tokens, scored)
    # A forward pass alone keeps nothing: first one layer's tensors (half of what its backward needs), then the logits.
    scoring = max(scored * hidden * compute * width / 2, scored_logits)

    vllm = 0.0 if on_cpu else gpu_gib * rollout.gpu_memory_utilization
    awake = 0.0 if rollout.free_cache_engine else vllm
    rollout_bytes = 4 if rollout.dtype == "float32" else 2
    rollout_weights = parameters * rollout_bytes / rollout.tensor_model_parallel_size / GIB
    head_dim = getattr(text, "head_dim", None) or hidden // text.num_attention_heads
    kv_heads = max(1, kv_heads_of(text) // rollout.tensor_model_parallel_size)
    # On the CPU a variable of vLLM's own gives the KV cache its size.
    cpu_cache = float(config.ray_kwargs.ray_init.runtime_env.env_vars.VLLM_CPU_KVCACHE_SPACE) if on_cpu else 0.0

    # Rank 0 reads the whole model, with tied embeddings every rank does. A reference model is always offloaded.
    ranks = config.trainer.n_gpus_per_node
    reading = parameters * master * (ranks if tied else 1)
    reference = state.weights if need_reference_policy(config) and trained else 0.0
    return Sizes(
        parameters=parameters,
        train_state=state.training / GIB,
        resident=state.resident / GIB,
        activations=activations / GIB,
        logits=logits / GIB,
        update_peak=(state.training + 2 * gathered + activations + logits) / GIB + awake,
        log_prob_peak=(state.scoring + gathered + scoring) / GIB + awake,
        vllm=vllm,
        rollout_weights=rollout_weights,
        kv_bytes_per_token=2 * layers * kv_heads * head_dim * rollout_bytes,
        kv_cache=cpu_cache if on_cpu else max(0.0, vllm - rollout_weights),
        checkpoint=(parameters + 2 * trained) * master / GIB,
        host=max(reading, (state.on_host + reference) * ranks) / GIB,
    )


def kv_heads_of(text: Any) -> int:
    """Key-value heads of a model's text config; as many as attention heads where it names none."""
    return int(getattr(text, "num_key_value_heads", None) or text.num_attention_heads)


def count(parameters: int) -> str:
    """A number of parameters as people say it: 7.62B, 0.5M."""
    return f"{parameters / 1e9:.2f}B" if parameters >= 1e8 else f"{parameters / 1e6:.1f}M"


def _layer_width(text: Any) -> float:
    """Hidden-sized tensors alive in one layer's backward: 13 of norms and attention, 6 of the MLP's width."""
    intermediate = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    return 13 + 6 * intermediate / text.hidden_size


def _micro_batch_tokens(config: DictConfig) -> tuple[int, int]:
    """Tokens of one micro-batch on one GPU: in the update, in the log-probability pass."""
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    if actor.use_dynamic_bsz:
        return actor.ppo_max_token_len_per_gpu, rollout.log_prob_max_token_len_per_gpu
    longest = config.data.max_prompt_length + config.data.max_response_length
    on_a_gpu = -(-longest // parallel(config).sequence)
    rows = (actor.ppo_micro_batch_size_per_gpu or 1, rollout.log_prob_micro_batch_size_per_gpu or 1)
    return on_a_gpu * rows[0], on_a_gpu * rows[1]


def _logits(config: DictConfig, vocabulary: int, compute: int, tokens: int, scored: int) -> tuple[float, float]:
    """Bytes of logits: of `tokens` in the update, of `scored` in the log-probability pass, which measures the entropy.

    With flash-attn's cross entropy (GPUs) the update keeps one copy and writes the gradient into it; without (CPU), the
    copy out of the padded batch and the gradients of gather, logsumexp and their sum take four more. Entropy takes
    softmax and product beside them (compiled, one of the two in float32); chunked, only a chunk's worth.
    """
    actor = config.actor_rollout_ref.actor
    if actor.use_fused_kernels:
        fused = float(_FUSED_CHUNK * vocabulary * _CHUNK_BYTES)
        return fused, fused
    on_cpu = config.trainer.device == "cpu"
    copies = 1 + (config.actor_rollout_ref.rollout.temperature != 1)
    update = compute * (copies + 4 * on_cpu)
    if actor.calculate_entropy or actor.entropy_coeff != 0:
        update += compute + 8  # a gradient apart from the logits, and what the entropy's backward keeps in float32
    if actor.fsdp_config.entropy_from_logits_with_chunking:
        entropy = actor.fsdp_config.entropy_from_logits_chunk_size * _CHUNK_BYTES
    else:
        entropy = scored * 2 * compute
    return tokens * vocabulary * update, vocabulary * (scored * compute * (copies + on_cpu) + entropy)
