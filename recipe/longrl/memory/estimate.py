"""Peak memory of each phase of a step, per GPU: an estimate to refuse the hopeless.

Counted exactly: parameters (on the meta device), optimizer state, KV cache per token, what layers keep for their
backward pass (`layers.py`). Estimated, after what verl's FSDP engine does: the layers it has gathered, and logits
(`logits.py`). Peaks are those of moments, not sums of all parts: in the update all layers' kept tensors are there, and
beside them either the logits and what made them or, when these are gone, one layer's backward with the layers that FSDP
has gathered. Not counted: allocator fragmentation, the trainer's CUDA context and NCCL buffers (`MARGIN_GIB`). Sizes
are in GiB; names of local variables without a unit are bytes.
"""

from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from recipe.longrl.memory import generation
from recipe.longrl.memory.attention import attention
from recipe.longrl.memory.layers import Widths
from recipe.longrl.memory.logits import SHORT_PROMPTS, engine_of, logit_bytes, logit_tokens
from recipe.longrl.parallelism import parallel

GIB = 2**30
MARGIN_GIB = 4.0
"""What the estimate leaves out; a run that comes closer to the GPU's memory than this may fail."""


@dataclass(frozen=True)
class Sizes:
    """Per-GPU sizes in GiB, what the KV cache holds, and host memory in GiB per node.

    weights, gradients, optimizer: this GPU's shards during the update (gradients unsharded as well, where their
    exchange is put off to the last micro-batch). gathered: what FSDP has put together while layers go backward (the
    output layer and two others), and as much of their gradients. kept: activations of all layers for the backward pass.
    working: what one layer's backward takes beside. logits: in the update. tokens, logit_tokens: of an update's
    micro-batch on this GPU. mask: of attention with one. resident: what of the trainer stays on the GPU while vLLM
    generates; sleeping: of vLLM while the trainer computes. update_peak, log_prob_peak: peaks of the actor's two
    passes. vllm: what vLLM claims, of which its profile run takes `profile`. checkpoint: the files of all ranks. host:
    a node's memory for reading the weights and for what is offloaded.
    """

    engine: str
    parameters: int
    weights: float
    gradients: float
    optimizer: float
    gathered: float
    kept: float
    working: float
    logits: float
    tokens: int
    logit_tokens: float
    mask: float
    resident: float
    sleeping: float
    update_peak: float
    log_prob_peak: float
    vllm: float
    rollout_weights: float
    profile: float
    kv_bytes_per_token: int
    kv_cache: float
    checkpoint: float
    host: float

    @property
    def train_state(self) -> float:
        """Weights, gradients and optimizer during the update."""
        return self.weights + self.gradients + self.optimizer

    @property
    def activations(self) -> float:
        """Of all layers, at the moment most of it is."""
        return self.kept + self.working

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
    def on_gpu(self) -> bool:
        """Unless `offload_policy` brings it there layer by layer."""
        return not self.fsdp.offload_policy

    @property
    def scoring(self) -> float:
        """On the GPU while log-probabilities are computed."""
        return self.on_gpu * (self.weights + self.moments * (not self.fsdp.optimizer_offload))

    @property
    def resident(self) -> float:
        """On the GPU while vLLM generates."""
        return self.scoring - self.on_gpu * self.weights * self.fsdp.param_offload

    @property
    def on_host(self) -> float:
        """Off the GPU, at the moment most of it is."""
        return self.weights + self.moments - self.resident + self.gradients * (not self.on_gpu)


@dataclass(frozen=True)
class Model:
    """A model's Hugging Face config and what the module that verl makes of it has, without allocating it.

    largest: numbers in its largest tensor.
    """

    config: Any
    parameters: int
    largest: int
    widths: Widths

    @classmethod
    def of(cls, config: Any) -> "Model":
        import torch
        from transformers import AutoModelForCausalLM
        from verl.utils.model import get_hf_auto_model_class

        named = getattr(config, "architectures", None)
        kind = get_hf_auto_model_class(config) if named else AutoModelForCausalLM
        with torch.device("meta"):
            parameters = dict(kind.from_config(config, attn_implementation="eager").named_parameters())
        widths = Widths.of(config.get_text_config(), qk_norm=any("q_norm" in name for name in parameters))
        numbers = [p.numel() for p in parameters.values()]
        return cls(config, sum(numbers), max(numbers), widths)


def estimate(
    config: DictConfig, shape: Model, gpu_gib: float, n_gpus: int, prompt_share: float = SHORT_PROMPTS
) -> Sizes:
    """Sizes for this configuration.

    gpu_gib: memory of one GPU. n_gpus: GPUs of the trainer. prompt_share: average prompt over the longest.
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
    trained = 0 if model.lora_rank > 0 else parameters  # adapters are next to nothing
    size = master / shards
    state = _State(weights=parameters * size, gradients=trained * size, moments=2 * trained * size, fsdp=fsdp)

    embeddings = vocabulary * text.hidden_size * (1 if tied else 2)
    # FSDP keeps the output layer from the forward pass on, and has two layers at a time. FSDP2 shards input embeddings
    # of their own as it does a layer.
    head = vocabulary * text.hidden_size * (2 if not tied and actor.strategy == "fsdp" else 1) * compute
    gathered = head + 2 * (parameters - embeddings) / layers * compute
    engine = engine_of(config, shape.config)
    tokens, scored = _micro_batch_tokens(config)
    wanted = logit_tokens(config, engine, tokens, actor.ppo_mini_batch_size, prompt_share)
    scored_wanted = logit_tokens(config, engine, scored, config.data.train_batch_size, prompt_share)
    logits, scored_logits = logit_bytes(config, engine, vocabulary, compute, wanted, scored_wanted)
    attending = attention(config, engine, widths, compute, tokens)
    whole = tokens * widths.kept(compute) + attending.kept
    working = max(tokens * widths.backward(compute), attending.backward)
    if model.enable_gradient_checkpointing:
        kept = tokens * layers * widths.hidden * compute
        # Computed again; in float32 a layer's input is what its first norm keeps.
        working += whole - tokens * widths.hidden * 4 * (compute == 4)
    else:
        kept = layers * whole
    working = max(working, tokens * widths.last_norm_backward())
    beside = max(2 * gathered + working, head + tokens * widths.last_norm(compute) + logits)
    # A forward pass alone keeps nothing: first one layer's tensors, then the logits.
    scoring = max(gathered + scored * widths.forward(compute), head + scored_logits)
    scoring += attention(config, engine, widths, compute, scored).mask

    vllm = 0.0 if on_cpu else gpu_gib * rollout.gpu_memory_utilization
    sleeping = 0.0 if on_cpu else generation.SLEEPING_GIB if rollout.free_cache_engine else vllm
    rollout_weights = generation.weight_bytes(rollout, parameters, embeddings) / GIB
    profile = 0.0 if on_cpu else generation.profile_bytes(rollout, widths, vocabulary) / GIB
    kv_heads = max(1, kv_heads_of(text) // rollout.tensor_model_parallel_size)
    # On the CPU a variable of vLLM's own gives the KV cache its size.
    cpu_cache = (
        float(config.ray_kwargs.ray_init.runtime_env.env_vars.get("VLLM_CPU_KVCACHE_SPACE") or 1) if on_cpu else 0.0
    )

    # Rank 0 reads the whole model, with tied embeddings every rank does. A reference model is always offloaded.
    ranks = config.trainer.n_gpus_per_node
    reading = parameters * master * (ranks if tied else 1)
    reference = state.weights if need_reference_policy(config) and trained else 0.0
    deferred = _deferred_gradients(fsdp, trained)
    training = state.on_gpu * (state.weights + state.gradients + state.moments) + deferred
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
        logit_tokens=wanted,
        mask=attending.mask / GIB,
        resident=state.resident / GIB,
        sleeping=sleeping,
        update_peak=(training + kept + attending.mask + beside) / GIB + sleeping,
        log_prob_peak=(state.scoring + scoring) / GIB + sleeping,
        vllm=vllm,
        rollout_weights=rollout_weights,
        profile=profile,
        kv_bytes_per_token=2 * layers * kv_heads * widths.head * generation.cache_bytes(rollout),
        kv_cache=cpu_cache if on_cpu else max(0.0, vllm - rollout_weights - profile),
        checkpoint=(parameters + 2 * trained) * master / GIB,
        host=max(reading, (state.on_host + reference) * ranks) / GIB,
    )


def device_gib(config: DictConfig, assumed: float) -> float:
    """Memory of one device: a GPU here, a share of the host on the CPU, `assumed` where there is no GPU to ask."""
    import torch

    if config.trainer.device == "cpu":
        import psutil

        return float(psutil.virtual_memory().total / GIB / config.trainer.n_gpus_per_node)
    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(0).total_memory / GIB)
    return assumed


def sent_mib(config: DictConfig, shape: Model) -> int:
    """MiB of the largest tensor that the trainer sends to vLLM, rounded up: FSDP sends master weights as they are; for
    Megatron, which sends half of it, an upper bound."""
    return -(-shape.largest * _master_bytes(config) // 2**20)


def margin_gib(config: DictConfig) -> float:
    """What is to be left of a device's memory."""
    return 0.0 if config.trainer.device == "cpu" else MARGIN_GIB


def kv_heads_of(text: Any) -> int:
    """Key-value heads of a model's text config; as many as attention heads where it names none."""
    return int(getattr(text, "num_key_value_heads", None) or text.num_attention_heads)


def count(parameters: int) -> str:
    """A number of parameters as people say it: 7.62B, 0.5M."""
    return f"{parameters / 1e9:.2f}B" if parameters >= 1e8 else f"{parameters / 1e6:.1f}M"


def _master_bytes(config: DictConfig) -> int:
    """Bytes of a number in the trainer's weights."""
    fsdp = config.actor_rollout_ref.actor.get("fsdp_config") or {}
    return 2 if fsdp.get("model_dtype") in ("bf16", "bfloat16", "fp16", "float16") else 4


def _deferred_gradients(fsdp: DictConfig, trained: int) -> float:
    """Bytes of whole gradients that every GPU keeps from one micro-batch to the next.

    With `use_no_sync_for_gradient_accumulation` verl exchanges gradients in the last micro-batch alone. FSDP2 keeps
    them unsharded until then, in the precision that they are reduced in (FSDPParam.to_accumulated_grad_if_needed).
    """
    if not fsdp.get("use_no_sync_for_gradient_accumulation"):
        return 0.0
    reduced = (fsdp.get("mixed_precision") or {}).get("reduce_dtype", "fp32")
    return float(trained * (2 if reduced in ("bf16", "bfloat16", "fp16", "float16") else 4))


def _micro_batch_tokens(config: DictConfig) -> tuple[int, int]:
    """Tokens of one micro-batch on one GPU: in the update, in the log-probability pass."""
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    if actor.use_dynamic_bsz:
        return actor.ppo_max_token_len_per_gpu, rollout.log_prob_max_token_len_per_gpu
    longest = config.data.max_prompt_length + config.data.max_response_length
    on_a_gpu = -(-longest // parallel(config).sequence)
    rows = (actor.ppo_micro_batch_size_per_gpu or 1, rollout.log_prob_micro_batch_size_per_gpu or 1)
    return on_a_gpu * rows[0], on_a_gpu * rows[1]
