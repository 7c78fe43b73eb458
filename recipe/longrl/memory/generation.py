"""Bytes of vLLM on one GPU: weights, profile run, KV cache per number, and memory while it sleeps.

vLLM claims `gpu_memory_utilization` of a GPU. Its weights and the peak of a profile run are taken from that, and the KV
cache gets the rest. The profile run is a forward pass of `max_num_batched_tokens` random tokens and the sampling of
`max_num_seqs` of them (vllm/v1/worker/gpu_model_runner.py: profile_run). Its bytes were counted from the tensors in
vLLM's layers, and have not been compared with a GPU.
"""

from typing import Any

from omegaconf import DictConfig

from recipe.longrl.memory.layers import LayerWidths

SLEEPING_GIB = 2.0
"""Memory of a sleeping vLLM on a GPU: CUDA context, NCCL's buffers, CUDA graphs. vLLM's own test of sleep mode
(tests/basic_correctness/test_cumem.py) allows a few GiB for a small model."""
_SAMPLED_BYTES = 16
"""Per entry of sampled logits: as computed, in float32, as probabilities, and the sampler's temporary tensors."""
_ONE_BYTE = ("fp8", "int8")
_BELOW_ONE = ("int4", "nvfp4", "turboquant")


def vllm_option(rollout: DictConfig, name: str) -> Any:
    """An option of vLLM: from rollout.engine_kwargs.vllm if set there, otherwise the rollout's key of that name."""
    engine_options = {key.replace("-", "_"): value for key, value in (rollout.engine_kwargs.get("vllm") or {}).items()}
    return engine_options[name] if engine_options.get(name) is not None else rollout.get(name)


def weight_bytes(rollout: DictConfig, parameters: int, embeddings: int) -> float:
    """Bytes of one GPU's share of the weights.

    With fp8 (verl's online quantization in blocks of 128 x 128, whose scales are negligible), linear layers take one
    byte per number; embeddings and the output layer stay as they are. Other quantizations are ignored, because their
    sizes depend on a file.
    """
    plain = 4 if rollout.dtype == "float32" else 2
    linear = 1 if vllm_option(rollout, "quantization") == "fp8" else plain
    return ((parameters - embeddings) * linear + embeddings * plain) / rollout.tensor_model_parallel_size


def cache_bytes(rollout: DictConfig) -> int:
    """Bytes per number of a key or a value, by `kv_cache_dtype`; `auto` is the model's dtype.

    Types of fewer than 8 bits count as 8.
    """
    kind = str(vllm_option(rollout, "kv_cache_dtype") or "auto")
    if kind.startswith(_ONE_BYTE + _BELOW_ONE):
        return 1
    kind = str(rollout.dtype) if kind == "auto" else kind
    return 4 if kind in ("float32", "float") else 2


def profile_bytes(rollout: DictConfig, widths: LayerWidths, vocabulary: int) -> float:
    """Peak bytes of the profile run: one layer of all batched tokens, or the logits to sample from."""
    compute, ranks = 4 if rollout.dtype == "float32" else 2, rollout.tensor_model_parallel_size
    tokens = vllm_option(rollout, "max_num_batched_tokens") or 0
    inner = widths.mlp / ranks
    if widths.experts:
        # Gate and up of each token's experts, or their outputs, and the input of their last projection.
        layer = max(2 * inner, widths.experts * widths.hidden) + inner
    else:
        layer = max(3 * inner, 2 * (widths.queries + widths.keys) / ranks + widths.hidden)
    sampled = min(tokens, vllm_option(rollout, "max_num_seqs") or tokens) * vocabulary * float(_SAMPLED_BYTES)
    # Residual, input and output of the layer.
    states = tokens * 3.0 * widths.hidden * compute
    return max(states + tokens * layer * compute, tokens * widths.hidden * float(compute) + sampled)
