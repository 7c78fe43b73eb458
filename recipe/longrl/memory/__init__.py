"""What a run needs per GPU, from the model's shape and the configuration: before a GPU, the data or the weights exist.

    python -m recipe.longrl.memory model=qwen2.5-7b-1m hardware=8gpu

| module | what |
|---|---|
| `layers.py` | bytes that a layer keeps for its backward pass, and takes beside them |
| `attention.py` | bytes of the attention on GPUs, by the way it is computed |
| `logits.py` | tokens whose logits an engine computes, and bytes of logits |
| `generation.py` | vLLM: weights, profile run, bytes of the KV cache, what it keeps asleep |
| `estimate.py` | all phases of a step: the estimate of the preflight and of the table |
| `advice.py` | what to change where something does not fit |
| `shapes.py` | the model's shape, from a folder, a JSON file, the hub, or, offline, `shapes.json` |
| `lengths.py` | the estimate at several prompt lengths |
| `table.py` | the table of it, also of `recipe.longrl.main --dry-run` |
"""

from recipe.longrl.memory.estimate import (
    GIB,
    MARGIN_GIB,
    Model,
    Sizes,
    count,
    device_gib,
    estimate,
    kv_heads_of,
    margin_gib,
    sent_mib,
)

__all__ = [
    "GIB",
    "MARGIN_GIB",
    "Model",
    "Sizes",
    "count",
    "device_gib",
    "estimate",
    "kv_heads_of",
    "margin_gib",
    "sent_mib",
]
