"""Bytes of the trainer's attention on one GPU: kept in addition to `LayerWidths.kept`, and in its backward pass.

There are four backends. With c bytes per number, T tokens computed together (on all GPUs that share a sequence), and on
each of these GPUs q numbers of queries and k of keys per token (their heads are divided among the GPUs):

    lse_merge     the shared prompt in half precision: all segments with themselves, then N responses with M tokens of
                  prompts
    lower_right   the shared prompt otherwise: each response with copies of its prompt's keys and values
    flash         a model's own attention, by flash-attn
    masked        a model's own attention, by torch with a mask of T x T (transformers' sdpa), or of each padded row

If there are fewer key-value heads, FlashAttention-2's backward (in torch and in flash-attn) computes gradients of keys
and values for every query head and sums them afterwards. It also has a float32 accumulator for gradients of queries,
and several of them in deterministic mode (mha_varlen_bwd of flash_api.cpp: dk_expanded, dv_expanded, dq_accum, nsplits;
read in flash-attn 2.8 and PyTorch's main branch). So for Q queries and K keys a backward takes

    c (Q q + 2 K k)  +  2 c K q, if there are fewer heads of keys  +  4 Q q

bytes. Example: T = 90,112 tokens of a 7B model (q = 3584, k = 512) in bfloat16 take 0.8 + 1.2 + 1.2 GiB.

These bytes are added to all that a layer keeps, although the MLP's share has been freed by then: the allocator may not
have a piece of it that is large enough.
"""

from typing import Literal, NamedTuple

from omegaconf import DictConfig

from recipe.longrl.memory.layers import LayerWidths
from recipe.longrl.parallelism import parallel

AttentionBackend = Literal["lse_merge", "lower_right", "flash", "masked"]
PROCESSORS = 132
"""Of an H100 or H200. Deterministic FlashAttention divides its work among them."""
_MASK_BYTES = 1
"""Per entry of a boolean mask. The same mask, as it is added to the scores, takes c more."""


class AttentionBytes(NamedTuple):
    """Bytes of attention on one GPU."""

    kept: float
    """By each layer for its backward pass, in addition to `LayerWidths.kept`."""
    backward: float
    """Temporary, in the backward pass of one layer."""
    mask: float
    """One mask for all layers."""


def predict_backend(config: DictConfig, engine: str, widths: LayerWidths, compute: int) -> AttentionBackend:
    """The backend that will be used on GPUs. compute: bytes per number.

    Each GPU chooses the shared prompt's backend (verl_longrl/engine/attention.py). Known beforehand are
    FlashAttention's precisions and head sizes.
    """
    if engine == "shared_prompt":
        return "lse_merge" if compute == 2 and widths.head % 8 == 0 and widths.head <= 256 else "lower_right"
    implementation = (config.actor_rollout_ref.model.override_config or {}).get("attn_implementation")
    return "masked" if implementation == "sdpa" else "flash"


def estimate_attention(
    config: DictConfig, engine: str, widths: LayerWidths, compute: int, tokens: int
) -> AttentionBytes:
    """Bytes for a micro-batch. tokens: on one device. compute: bytes per number.

    On the CPU, `LayerWidths` counts everything. Sequence parallelism makes a second copy of the output when it
    exchanges it, and repeats key-value heads if there are fewer than ranks.
    """
    ranks = parallel(config).sequence
    repeats = max(1, ranks * widths.head // widths.keys)
    kept = compute * tokens * (widths.queries * (ranks > 1) + 2 * widths.keys * (repeats - 1))
    if config.trainer.device == "cpu":
        return AttentionBytes(kept, 0.0, 0.0)
    heads = _Heads(widths.queries / ranks, widths.keys * repeats / ranks, _splits(config, widths, ranks), compute)
    whole, prompt, response = tokens * ranks, config.data.max_prompt_length, config.data.max_response_length
    backend = predict_backend(config, engine, widths, compute)
    if backend == "lse_merge":
        prompts = min(prompt, max(0, whole - response))
        responses = whole - prompts
        # Gathered: gradient, queries and output of the responses, keys and values of the prompts.
        gathered = heads.copies(queries=3 * responses, keys=prompts)
        first, second = heads.backward(whole, whole), gathered + heads.backward(responses, prompts)
        # The gradients of the first part remain while the second is computed.
        return AttentionBytes(kept, max(first, heads.gradients(whole, whole) + second), 0.0)
    if backend == "lower_right":
        longest = min(whole, prompt + response)
        # Keys and values, before and after their expansion to all query heads.
        copies = heads.copies(queries=2 * longest, keys=longest)
        return AttentionBytes(kept, heads.gradients(whole, whole) + copies + heads.backward(response, longest), 0.0)
    if backend == "masked":
        expanded = heads.copies(queries=2 * whole, keys=0) if heads.fewer else 0.0
        packed = config.actor_rollout_ref.model.use_remove_padding
        pairs = float(whole) * (whole if packed else min(whole, prompt + response))
        return AttentionBytes(kept + expanded, heads.backward(whole, whole), pairs * (_MASK_BYTES + compute))
    return AttentionBytes(kept, heads.backward(whole, whole), 0.0)


class _Heads(NamedTuple):
    """Numbers per token on one GPU.

    splits: accumulators of gradients of queries. compute: bytes per number.
    """

    queries: float
    keys: float
    splits: int
    compute: int

    @property
    def fewer(self) -> bool:
        """Whether query heads share key-value heads."""
        return self.keys < self.queries

    def copies(self, queries: float, keys: float) -> float:
        """Bytes of these numbers of tokens' queries, and keys and values."""
        return self.compute * (queries * self.queries + 2 * keys * self.keys)

    def gradients(self, queries: float, keys: float) -> float:
        """Bytes that a backward pass returns."""
        return self.copies(queries, keys)

    def backward(self, queries: float, keys: float) -> float:
        """The same plus the temporary bytes of the pass."""
        expanded = 2 * self.compute * keys * self.queries * self.fewer
        return self.gradients(queries, keys) + expanded + 4 * queries * self.queries * self.splits


def _splits(config: DictConfig, widths: LayerWidths, ranks: int) -> int:
    """Accumulators of the gradients of queries: 1, or in deterministic mode one for each part of the work.

    There are at least two segments, a prompt and a response.
    """
    if not config.actor_rollout_ref.actor.fsdp_config.get("full_determinism"):
        return 1
    return -(-PROCESSORS // max(1, 2 * widths.heads // ranks))
