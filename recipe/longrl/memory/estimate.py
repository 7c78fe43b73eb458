"""Estimate the peak memory of each phase of a step, per GPU, to reject configurations that cannot fit.

Counted exactly: parameters (on the meta device), optimizer state, KV cache per token, and what layers keep for their
backward pass (`layers.py`). Estimated from what verl's FSDP engine does: gathered layers, and logits (`logits.py`).
Measured on the CPU: the process itself, and holes in the heap (scripts/bench/host_memory.py). Not counted on GPUs:
fragmentation of the allocator, the trainer's CUDA context and NCCL buffers (`MARGIN_GIB`).

Peaks are not additive: logits are freed before the layers' backward pass. In the update, the kept tensors of all layers
coexist either with the logits and their inputs, or later with one layer's backward pass and the layers that FSDP has
gathered.

Sizes are in GiB; local variables without a unit in their name are in bytes.
"""

from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from recipe.longrl.memory import generation
from recipe.longrl.memory.attention import estimate_attention
from recipe.longrl.memory.layers import LayerWidths
from recipe.longrl.memory.logits import SHORT_PROMPTS, engine_of, logit_bytes, logit_tokens
from recipe.longrl.parallelism import parallel

GIB = 2**30
MARGIN_GIB = 4.0
"""Allowance for what the estimate leaves out. A run that leaves less of the GPU's memory free may fail."""

PROCESS_GIB = 0.65
"""Resident memory of a rank on the CPU without tensors: Python, torch and verl."""
HOLES = 0.25
"""Free memory between the activations in a CPU's heap at the peak of an update, divided by their size."""


@dataclass(frozen=True)
class Sizes:
    """The estimate: GiB per GPU, except where noted."""

    engine: str
    parameters: int
    """Number of parameters of the model."""
    weights: float
    """This GPU's shard of the weights during the update."""
    gradients: float
    """This GPU's shard, and whole gradients if they are exchanged only in the last micro-batch."""
    optimizer: float
    gathered: float
    """Layers that FSDP has gathered during the backward pass (output layer and two others), and their gradients."""
    kept: float
    """Activations of all layers for the backward pass."""
    working: float
    """Temporary memory of one layer's backward pass."""
    logits: float
    """In the update."""
    tokens: int
    """Tokens of an update's micro-batch on this GPU."""
    logit_tokens: float
    """Those of `tokens` with logits."""
    mask: float
    """The attention mask, if the backend needs one."""
    process: float
    """The memory of a rank on the CPU besides tensors and holes; 0 on GPUs."""
    holes: float
    """Free memory between activations in the heap on the CPU, in the update; 0 on GPUs."""
    resident: float
    """The trainer's memory while vLLM generates."""
    sleeping: float
    """vLLM's memory while the trainer computes."""
    update_peak: float
    log_prob_peak: float
    vllm: float
    """The memory that vLLM claims, with weights, profile run and KV cache."""
    rollout_weights: float
    profile: float
    """vLLM's profile run."""
    kv_bytes_per_token: int
    kv_cache: float
    checkpoint: float
    """The files of all ranks together."""
    host: float
    """Host memory per node, to read the weights and for offloaded state."""

    @property
    def train_state(self) -> float:
        """Weights, gradients and optimizer during the update."""
        return self.weights + self.gradients + self.optimizer

    @property
    def kv_tokens(self) -> int:
        """Number of tokens that fit into the KV cache of one vLLM replica."""
        return int(self.kv_cache * GIB / self.kv_bytes_per_token)


@dataclass(frozen=True)
class _State:
    """Bytes of one rank's master weights, gradients and Adam moments, and their offloading (`fsdp_config`)."""

    weights: float
    gradients: float
    moments: float
    fsdp: DictConfig

    @property
    def on_gpu(self) -> bool:
        """Whether the state stays on the GPU. With `offload_policy` it is moved there layer by layer."""
        return not self.fsdp.offload_policy

    @property
    def scoring(self) -> float:
        """Bytes on the GPU while log-probabilities are computed."""
        return self.on_gpu * (self.weights + self.moments * (not self.fsdp.optimizer_offload))

    @property
    def resident(self) -> float:
        """Bytes on the GPU while vLLM generates."""
        return self.scoring - self.on_gpu * self.weights * self.fsdp.param_offload

    @property
    def on_host(self) -> float:
        """Bytes in host memory at their peak."""
        return self.weights + self.moments - self.resident + self.gradients * (not self.on_gpu)


@dataclass(frozen=True)
class ModelSizes:
    """Sizes of the module that verl builds from a Hugging Face config, counted without allocating it."""

    config: Any
    """The Hugging Face config."""
    parameters: int
    largest: int
    """Numbers in the largest tensor."""
    widths: LayerWidths

    @classmethod
    def of(cls, config: Any) -> "ModelSizes":
        import torch
        from transformers import AutoModelForCausalLM
        from verl.utils.model import get_hf_auto_model_class

        has_architecture = getattr(config, "architectures", None)
        auto_class = get_hf_auto_model_class(config) if has_architecture else AutoModelForCausalLM
        with torch.device("meta"):
            parameters = dict(auto_class.from_config(config, attn_implementation="eager").named_parameters())
        widths = LayerWidths.of(config.get_text_config(), qk_norm=any("q_norm" in name for name in parameters))
        numbers = [p.numel() for p in parameters.values()]
        return cls(config, sum(numbers), max(numbers), widths)


def estimate(
    config: DictConfig, shape: ModelSizes, gpu_gib: float, n_gpus: int, prompt_share: float = SHORT_PROMPTS
) -> Sizes:
    """Sizes for this configuration.

    Args:
        gpu_gib: memory of one GPU.
        n_gpus: GPUs of the trainer.
        prompt_share: average prompt length divided by data.max_prompt_length.
    """
    from verl.trainer.ppo.utils import need_reference_policy

    model, actor, rollout = (config.actor_rollout_ref[name] for name in ("model", "actor", "rollout"))
    text, fsdp, widths, parameters = shape.config.get_text_config(), actor.fsdp_config, shape.widths, shape.parameters
    layers, vocabulary = text.num_hidden_layers, text.vocab_size
    tied = bool(getattr(shape.config, "tie_word_embeddings", False))
    on_cpu = config.trainer.device == "cpu"

    shards = n_gpus if fsdp.fsdp_size in (-1, None) else fsdp.fsdp_size
    master = _master_bytes(config)
    compute = 4 if (fsdp.get("mixed_precision") or {}).get("param_dtype") == "fp32" else 2
    # Adapters are negligible.
    trained = 0 if model.lora_rank > 0 else parameters
    size = master / shards
    state = _State(weights=parameters * size, gradients=trained * size, moments=2 * trained * size, fsdp=fsdp)

    embeddings = vocabulary * text.hidden_size * (1 if tied else 2)
    # From the forward pass on, FSDP keeps the output layer gathered, and two layers at a time. FSDP2 shards input
    # embeddings separately, like a layer.
    head = vocabulary * text.hidden_size * (2 if not tied and actor.strategy == "fsdp" else 1) * compute
    gathered = head + 2 * (parameters - embeddings) / layers * compute
    engine = engine_of(config, shape.config)
    tokens, scored = _micro_batch_tokens(config)
    update_logit_tokens = logit_tokens(config, engine, tokens, actor.ppo_mini_batch_size, prompt_share)
    scored_logit_tokens = logit_tokens(config, engine, scored, config.data.train_batch_size, prompt_share)
    logits, scored_logits = logit_bytes(config, engine, vocabulary, compute, update_logit_tokens, scored_logit_tokens)
    attention = estimate_attention(config, engine, widths, compute, tokens)
    layer_kept = tokens * widths.kept(compute) + attention.kept
    working = max(tokens * widths.backward(compute), attention.backward)
    if model.enable_gradient_checkpointing:
        kept = tokens * layers * widths.hidden * compute
        # One layer's activations are recomputed. In float32 its first norm keeps the layer's input itself.
        working += layer_kept - tokens * widths.hidden * 4 * (compute == 4)
    else:
        kept = layers * layer_kept
    working = max(working, tokens * widths.last_norm_backward())
    # The two moments of the update: one layer's backward pass, or the logits.
    temporary = max(2 * gathered + working, head + tokens * widths.last_norm(compute) + logits)
    # A pass without gradient keeps nothing: first there are one layer's tensors, then the logits.
    scoring = max(gathered + scored * widths.forward(compute), head + scored_logits)
    scoring += estimate_attention(config, engine, widths, compute, scored).mask

    vllm = 0.0 if on_cpu else gpu_gib * rollout.gpu_memory_utilization
    sleeping = 0.0 if on_cpu else generation.SLEEPING_GIB if rollout.free_cache_engine else vllm
    # On the CPU a replica has a packed copy, too (`verl_longrl.platform.vllm_cpu.LiveLinear`).
    rollout_weights = (2 if on_cpu else 1) * generation.weight_bytes(rollout, parameters, embeddings) / GIB
    profile = 0.0 if on_cpu else generation.profile_bytes(rollout, widths, vocabulary) / GIB
    kv_heads = max(1, kv_heads_of(text) // rollout.tensor_model_parallel_size)
    # On the CPU an environment variable of vLLM sets the size of the KV cache.
    cpu_cache = (
        float(config.ray_kwargs.ray_init.runtime_env.env_vars.get("VLLM_CPU_KVCACHE_SPACE") or 1) if on_cpu else 0.0
    )

    # Rank 0 reads the whole model; with tied embeddings every rank does. A reference model is always offloaded.
    ranks = config.trainer.n_gpus_per_node
    reading = parameters * master * (ranks if tied else 1)
    reference = state.weights if need_reference_policy(config) and trained else 0.0
    deferred = _deferred_gradients(fsdp, trained)
    training = state.on_gpu * (state.weights + state.gradients + state.moments) + deferred
    process, holes = (PROCESS_GIB, HOLES * kept / GIB) if on_cpu else (0.0, 0.0)
    return Sizes(
        engine=engine,
        parameters=parameters,
        weights=state.on_gpu * state.weights / GIB,
        gradients=(state.on_gpu * state.gradients + deferred) / GIB,
        optimizer=state.on_gpu * state.moments / GIB,
        gathered=2 * gathered / GIB,
        kept=kept / GIB,
        working=working / GIB,
        logits=logits / GIB,
        tokens=tokens,
        logit_tokens=update_logit_tokens,
        mask=attention.mask / GIB,
        process=process,
        holes=holes,
        resident=state.resident / GIB,
        sleeping=sleeping,
        update_peak=(training + kept + attention.mask + temporary) / GIB + sleeping + process + holes,
        log_prob_peak=(state.scoring + scoring) / GIB + sleeping + process,
        vllm=vllm,
        rollout_weights=rollout_weights,
        profile=profile,
        kv_bytes_per_token=2 * layers * kv_heads * widths.head * generation.cache_bytes(rollout),
        kv_cache=cpu_cache if on_cpu else max(0.0, vllm - rollout_weights - profile),
        checkpoint=(parameters + 2 * trained) * master / GIB,
        host=max(reading, (state.on_host + reference) * ranks) / GIB,
    )


def device_gib(config: DictConfig, assumed: float) -> float:
    """GiB of one device: of this machine's GPU, a share of the host on the CPU, or `assumed` without a GPU."""
    import torch

    if config.trainer.device == "cpu":
        import psutil

        return float(psutil.virtual_memory().total / GIB / config.trainer.n_gpus_per_node)
    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(0).total_memory / GIB)
    return assumed


def largest_tensor_mib(config: DictConfig, shape: ModelSizes) -> int:
    """MiB of the largest tensor that the trainer sends to vLLM, rounded up.

    FSDP sends master weights as they are. Megatron sends half of that, so for it this is an upper bound.
    """
    return -(-shape.largest * _master_bytes(config) // 2**20)


def margin_gib(config: DictConfig) -> float:
    """GiB of a device's memory to leave free."""
    return 0.0 if config.trainer.device == "cpu" else MARGIN_GIB


def kv_heads_of(text: Any) -> int:
    """Key-value heads of a model's text config; by default as many as attention heads."""
    return int(getattr(text, "num_key_value_heads", None) or text.num_attention_heads)


def format_count(parameters: int) -> str:
    """Format a number of parameters: 7.62B, 0.5M."""
    return f"{parameters / 1e9:.2f}B" if parameters >= 1e8 else f"{parameters / 1e6:.1f}M"


def _master_bytes(config: DictConfig) -> int:
    """Bytes per number of the trainer's weights."""
    fsdp = config.actor_rollout_ref.actor.get("fsdp_config") or {}
    return 2 if fsdp.get("model_dtype") in ("bf16", "bfloat16", "fp16", "float16") else 4


def _deferred_gradients(fsdp: DictConfig, trained: int) -> float:
    """Bytes of whole gradients that every GPU keeps from one micro-batch to the next.

    With `use_no_sync_for_gradient_accumulation` verl exchanges gradients only in the last micro-batch. Until then FSDP2
    keeps them unsharded, in the precision of their reduction (FSDPParam.to_accumulated_grad_if_needed).
    """
    if not fsdp.get("use_no_sync_for_gradient_accumulation"):
        return 0.0
    reduced = (fsdp.get("mixed_precision") or {}).get("reduce_dtype", "fp32")
    return float(trained * (2 if reduced in ("bf16", "bfloat16", "fp16", "float16") else 4))


def _micro_batch_tokens(config: DictConfig) -> tuple[int, int]:
    """Tokens of one micro-batch on one GPU, in the update and in the log-probability pass."""
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    if actor.use_dynamic_bsz:
        return actor.ppo_max_token_len_per_gpu, rollout.log_prob_max_token_len_per_gpu
    longest = config.data.max_prompt_length + config.data.max_response_length
    row_on_gpu = -(-longest // parallel(config).sequence)
    rows = (actor.ppo_micro_batch_size_per_gpu or 1, rollout.log_prob_micro_batch_size_per_gpu or 1)
    return row_on_gpu * rows[0], row_on_gpu * rows[1]
