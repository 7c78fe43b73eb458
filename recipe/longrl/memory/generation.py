"""What vLLM needs on one GPU beside its KV cache, what a token takes of the cache, what it keeps while it sleeps.

vLLM claims `gpu_memory_utilization` of a GPU. Of that it takes its weights and the peak of a profile run, a forward
pass of `max_num_batched_tokens` with random tokens and the sampling of `max_num_seqs` of them
(vllm/v1/worker/gpu_model_runner.py: profile_run), and the KV cache has the rest. The counts of that pass are of the
tensors in vLLM's layers; they have not been compared with a GPU.
"""

from typing import Any

from omegaconf import DictConfig

from recipe.longrl.memory.layers import Widths

SLEEPING_GIB = 2.0
"""What a sleeping vLLM still has on a GPU: CUDA context, NCCL's buffers, CUDA graphs. vLLM's own test of sleep mode
(tests/basic_correctness/test_cumem.py) allows a small model a few GiB."""
_SAMPLED_BYTES = 16  # per entry of sampled logits: as computed, in float32, probabilities, and the sampler's own
_ONE_BYTE = ("fp8", "int8")
_BELOW_ONE = ("int4", "nvfp4", "turboquant")


def option(rollout: DictConfig, name: str) -> Any:
    """An option of vLLM's: from rollout.engine_kwargs.vllm, which wins, else the rollout's key of that name."""
    given = {key.replace("-", "_"): value for key, value in (rollout.engine_kwargs.get("vllm") or {}).items()}
    return given[name] if given.get(name) is not None else rollout.get(name)


def weight_bytes(rollout: DictConfig, parameters: int, embeddings: int) -> float:
    """Of one GPU's share. Quantised to fp8 (verl's online quantisation: blocks of 128 x 128, scales of next to
    nothing), linear layers take a byte per number, embeddings and output layer what they took. Other quantisations are
    counted as none: what they leave depends on a file."""
    plain = 4 if rollout.dtype == "float32" else 2
    linear = 1 if option(rollout, "quantization") == "fp8" else plain
    return ((parameters - embeddings) * linear + embeddings * plain) / rollout.tensor_model_parallel_size


def cache_bytes(rollout: DictConfig) -> int:
    """Per number of a key or a value: of `kv_cache_dtype`, the model's where it is auto. Fewer than 8 bits are counted
    as 8."""
    kind = str(option(rollout, "kv_cache_dtype") or "auto")
    if kind.startswith(_ONE_BYTE + _BELOW_ONE):
        return 1
    kind = str(rollout.dtype) if kind == "auto" else kind
    return 4 if kind in ("float32", "float") else 2


def profile_bytes(rollout: DictConfig, widths: Widths, vocabulary: int) -> float:
    """The peak of vLLM's profile run: one layer of all batched tokens, or the logits that are sampled from."""
    compute, ranks = 4 if rollout.dtype == "float32" else 2, rollout.tensor_model_parallel_size
    tokens = option(rollout, "max_num_batched_tokens") or 0
    inner = widths.mlp / ranks
    if widths.experts:  # gate and up of each token's experts, or what they give back, beside what goes into their last
        layer = max(2 * inner, widths.experts * widths.hidden) + inner
    else:
        layer = max(3 * inner, 2 * (widths.queries + widths.keys) / ranks + widths.hidden)
    sampled = min(tokens, option(rollout, "max_num_seqs") or tokens) * vocabulary * float(_SAMPLED_BYTES)
    states = tokens * 3.0 * widths.hidden * compute  # residual, input and output of the layer
    return max(states + tokens * layer * compute, tokens * widths.hidden * float(compute) + sampled)
