"""Estimate the memory of a run per GPU from the model's shape and the configuration, without a GPU, data or weights.

    python -m recipe.longrl.memory model=qwen2.5-7b-1m hardware=8gpu

| module | contents |
|---|---|
| `layers.py` | bytes that a layer keeps for its backward pass, and temporary bytes of its passes |
| `attention.py` | bytes of attention on GPUs, by backend |
| `logits.py` | tokens whose logits an engine computes, and bytes of logits |
| `generation.py` | vLLM: weights, profile run, bytes of the KV cache, memory while it sleeps |
| `estimate.py` | all phases of a step; used by the preflight and the table |
| `advice.py` | what to change if a phase does not fit |
| `shapes.py` | the model's shape, from a folder, a JSON file, the hub, or `shapes.json` without network |
| `lengths.py` | the estimate at several prompt lengths |
| `table.py` | the table of the command, which `recipe.longrl.main --dry-run` prints too |
"""

from recipe.longrl.memory.estimate import (
    GIB,
    MARGIN_GIB,
    ModelSizes,
    Sizes,
    device_gib,
    estimate,
    format_count,
    kv_heads_of,
    largest_tensor_mib,
    margin_gib,
)

__all__ = [
    "GIB",
    "MARGIN_GIB",
    "ModelSizes",
    "Sizes",
    "device_gib",
    "estimate",
    "format_count",
    "kv_heads_of",
    "largest_tensor_mib",
    "margin_gib",
]
