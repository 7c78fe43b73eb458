"""How many logits an engine computes in a micro-batch, and the bytes of them.

A micro-batch has at most T tokens (tokens per GPU x S GPUs of sequence parallelism). verl computes logits for all;
the other engines where responses are. How many that is depends on the data: prompts are at most P tokens
(data.max_prompt_length), responses at most R, n of each prompt. The estimate takes responses of R tokens and prompts of
half P (`SHORT_PROMPTS`): with shorter prompts a micro-batch holds more responses, and an average of half the maximum is
what data sorted by nothing but a maximum has. All T tokens in responses, which very short prompts come close to, is
verl's figure. So, on each GPU:

    shared_prompt     min(T n R / (P/2 + n R), T - P/2) / S     sharded evenly (engine/sequence_sharding.py)
    response_logits   R for each P/2 + R of the T / S tokens, rounded up to the responses that one rank may meet, for
                      rows are cut into contiguous parts and all ranks compute as many as the fullest

(without the removal of padding, response_logits computes them from the shortest prompt's end on, so P/2 more for a row)
and never more than all rows of the (mini-)batch have, nor than T / S.
"""

from typing import Any

from omegaconf import DictConfig
from verl_longrl.engine.supported import best_engine

from recipe.longrl.parallelism import n_gpus, parallel

SHORT_PROMPTS = 0.5
"""Average prompt over data.max_prompt_length, see above."""
_FUSED_CHUNK = 512  # tokens at a time in verl's FusedLinearForPPO
_CHUNK_BYTES = 16  # per entry of a chunk: its logits, softmax, product and exponentials, in float32


def engine_of(config: DictConfig, model_config: Any) -> str:
    """The trainer's engine; for `auto`, which the preflight decides on, the one that it will."""
    asked = str(config.longrl.engine)
    return best_engine(config, model_config) if asked == "auto" else asked


def logit_tokens(config: DictConfig, engine: str, tokens: int, prompts: int, prompt_share: float) -> float:
    """Tokens of a micro-batch with logits, on one GPU.

    tokens: of the micro-batch, on one GPU. prompts: in the batch that micro-batches are cut from. prompt_share: average
    length of prompts over data.max_prompt_length.
    """
    if engine == "upstream":
        return tokens
    response, n = config.data.max_response_length, config.actor_rollout_ref.rollout.n
    prompt = int(prompt_share * config.data.max_prompt_length)
    ranks = parallel(config).sequence
    everything = prompts * n * response / max(1, n_gpus(config) // parallel(config).rank)
    if engine == "shared_prompt":
        whole = tokens * ranks
        responses = min(whole * n * response / (prompt + n * response), max(whole - prompt, response))
        return min(tokens, min(responses, everything) / ranks)
    rows, rest = divmod(tokens, prompt + response)
    if not config.actor_rollout_ref.model.use_remove_padding:
        response += config.data.max_prompt_length - prompt
        return min(tokens, max(1, rows) * response)
    return min(tokens, rows * response + min(rest, response), everything)


def logit_bytes(
    config: DictConfig, engine: str, vocabulary: int, compute: int, update: float, scored: float
) -> tuple[float, float]:
    """Bytes of logits: of `update` tokens in the update, of `scored` in the log-probability pass, which measures the
    entropy. compute: bytes per number.

    Our engines' log-probabilities keep one copy in the update and write the gradient into it, as flash-attn's cross
    entropy does (verl_longrl/engine/log_probs.py). verl without flash-attn (on the CPU, or on a GPU whose attention
    is sdpa for want of it) takes three more: the gradients of gather, logsumexp and their sum. Where rows are padded,
    they are copied out of them.
    Entropy takes softmax and product beside them (compiled, one of the two in float32); chunked, only a chunk's worth.
    """
    from verl_longrl.engine.log_probs import CHUNK_ENTRIES

    actor = config.actor_rollout_ref.actor
    if actor.use_fused_kernels:
        fused = float(_FUSED_CHUNK * vocabulary * _CHUNK_BYTES)
        return fused, fused
    on_cpu = config.trainer.device == "cpu"
    unpadded = engine != "shared_prompt" and not config.actor_rollout_ref.model.use_remove_padding
    scaled = 1 + (config.actor_rollout_ref.rollout.temperature != 1)
    row_by_row = engine == "upstream" and (on_cpu or _without_flash_attn(config))
    held = compute * (scaled + unpadded + 3 * row_by_row)
    if actor.calculate_entropy or actor.entropy_coeff != 0:
        held += compute + 8  # a gradient apart from the logits, and what the entropy's backward keeps in float32
    if actor.fsdp_config.entropy_from_logits_with_chunking:
        entropy = actor.fsdp_config.entropy_from_logits_chunk_size * _CHUNK_BYTES
    else:
        entropy = scored * 2 * compute
    # verl copies logits out of padded rows when it has their entropy.
    copied = scored * compute * unpadded
    beside = max(entropy, copied) if engine == "upstream" else entropy + copied
    # Beside them a chunk in float32, which is next to nothing on a GPU.
    chunk = 4 * min(update * vocabulary, CHUNK_ENTRIES) if on_cpu and engine != "upstream" else 0.0
    return update * vocabulary * held + chunk, vocabulary * (scored * compute * scaled + beside)


def _without_flash_attn(config: DictConfig) -> bool:
    override = config.actor_rollout_ref.model.override_config or {}
    return bool(override.get("attn_implementation") == "sdpa")
