"""Bytes that the trainer's attention takes on one GPU: kept beside `Widths.kept`, and in its backward pass.

Four ways, with c bytes per number, T tokens computed together (on all GPUs that share a sequence), and on each of these
q numbers of queries and k of keys per token (their heads are divided among the GPUs):

    merge         the shared prompt in half precision: all segments with themselves, then N responses with M tokens of
                  prompts
    lower_right   the shared prompt otherwise: each response with copies of its prompt's keys and values
    flash         a model's own attention, by flash-attn
    masked        a model's own attention, by torch's with a mask of T x T (transformers' sdpa), or of each padded row

FlashAttention-2's backward, of torch and of flash-attn alike, has gradients of keys and values for every query head
where key-value heads are fewer, and sums them up afterwards; and a float32 accumulator for those of queries, several of
them in deterministic mode (mha_varlen_bwd of flash_api.cpp: dk_expanded, dv_expanded, dq_accum, nsplits; read in
flash-attn 2.8 and PyTorch's main branch). So a backward takes, for Q queries and K keys,

    c (Q q + 2 K k)  +  2 c K q, where there are fewer heads of keys  +  4 Q q

It is counted beside all that a layer keeps, though the MLP's share has been freed by then: the allocator may have no
piece of it that is large enough.
"""

from typing import Literal, NamedTuple

from omegaconf import DictConfig

from recipe.longrl.memory.layers import Widths
from recipe.longrl.parallelism import parallel

Way = Literal["merge", "lower_right", "flash", "masked"]
PROCESSORS = 132  # of an H100 or H200, among which deterministic FlashAttention divides the work
_MASK_BYTES = 1  # and c for the same mask as it is added to the scores


class Attention(NamedTuple):
    """Bytes: `kept` by each layer beside `Widths.kept`, what one layer's `backward` takes, and a `mask` for all."""

    kept: float
    backward: float
    mask: float


def way_of(config: DictConfig, engine: str, widths: Widths, compute: int) -> Way:
    """The way that will be taken on GPUs. The shared prompt's is decided by each GPU
    (verl_longrl/engine/attention.py); what can be known before is FlashAttention's precision and head sizes."""
    if engine == "shared_prompt":
        return "merge" if compute == 2 and widths.head % 8 == 0 and widths.head <= 256 else "lower_right"
    given = (config.actor_rollout_ref.model.override_config or {}).get("attn_implementation")
    return "masked" if given == "sdpa" else "flash"


def attention(config: DictConfig, engine: str, widths: Widths, compute: int, tokens: int) -> Attention:
    """Of a micro-batch with so many tokens on one device. On the CPU nothing beside what `Widths` counts.

    Sequence parallelism exchanges the output for tokens, a second copy, and repeats key-value heads that are fewer than
    its ranks.
    """
    ranks = parallel(config).sequence
    repeats = max(1, ranks * widths.head // widths.keys)
    kept = compute * tokens * (widths.queries * (ranks > 1) + 2 * widths.keys * (repeats - 1))
    if config.trainer.device == "cpu":
        return Attention(kept, 0.0, 0.0)
    heads = _Heads(widths.queries / ranks, widths.keys * repeats / ranks, _splits(config, widths, ranks), compute)
    whole, prompt, response = tokens * ranks, config.data.max_prompt_length, config.data.max_response_length
    way = way_of(config, engine, widths, compute)
    if way == "merge":
        prompts = min(prompt, max(0, whole - response))
        responses = whole - prompts
        parts = heads.copies(queries=3 * responses, keys=prompts)  # gradient, queries and output of the responses
        first, second = heads.backward(whole, whole), parts + heads.backward(responses, prompts)
        return Attention(kept, max(first, heads.gradients(whole, whole) + second), 0.0)
    if way == "lower_right":
        longest = min(whole, prompt + response)
        copies = heads.copies(queries=2 * longest, keys=longest)  # keys and values, before and after their expansion
        return Attention(kept, heads.gradients(whole, whole) + copies + heads.backward(response, longest), 0.0)
    if way == "masked":
        expanded = heads.copies(queries=2 * whole, keys=0) if heads.fewer else 0.0
        packed = config.actor_rollout_ref.model.use_remove_padding
        pairs = float(whole) * (whole if packed else min(whole, prompt + response))
        return Attention(kept + expanded, heads.backward(whole, whole), pairs * (_MASK_BYTES + compute))
    return Attention(kept, heads.backward(whole, whole), 0.0)


class _Heads(NamedTuple):
    """Numbers per token on one GPU, accumulators of deterministic mode, and bytes per number."""

    queries: float
    keys: float
    splits: int
    compute: int

    @property
    def fewer(self) -> bool:
        """Whether query heads share key-value heads."""
        return self.keys < self.queries

    def copies(self, queries: float, keys: float) -> float:
        """Of so many tokens' queries, and of so many's keys and values."""
        return self.compute * (queries * self.queries + 2 * keys * self.keys)

    def gradients(self, queries: float, keys: float) -> float:
        """What a backward pass returns."""
        return self.copies(queries, keys)

    def backward(self, queries: float, keys: float) -> float:
        """With what it takes to compute them."""
        expanded = 2 * self.compute * keys * self.queries * self.fewer
        return self.gradients(queries, keys) + expanded + 4 * queries * self.queries * self.splits


def _splits(config: DictConfig, widths: Widths, ranks: int) -> int:
    """Accumulators of the queries' gradients: in deterministic mode one for each part that work is divided into, of at
    least a prompt and a response."""
    if not config.actor_rollout_ref.actor.fsdp_config.get("full_determinism"):
        return 1
    return -(-PROCESSORS // max(1, 2 * widths.heads // ranks))
