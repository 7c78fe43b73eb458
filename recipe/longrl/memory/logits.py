"""Count the tokens of a micro-batch whose logits an engine computes, and the bytes of these logits.

A micro-batch has at most T tokens (tokens per GPU x S GPUs of sequence parallelism). verl computes logits for all of
them, our engines only at responses. How many these are depends on the data: prompts have at most P tokens
(data.max_prompt_length), responses at most R, with n responses per prompt. The estimate assumes responses of R tokens
and prompts of P/2 (`SHORT_PROMPTS`): a micro-batch of shorter prompts holds more responses, and half the maximum is
the average length of evenly distributed prompts. With very short prompts nearly all T tokens are responses, as in
verl's figure. On each GPU that makes

    shared_prompt     min(T n R / (P/2 + n R), T - P/2) / S     sharded evenly (engine/sequence_sharding.py)
    response_logits   R for each P/2 + R of the T / S tokens, rounded up to the responses that one rank may have,
                      because rows are cut into contiguous parts and all ranks compute as many logits as the fullest

tokens, and never more than all rows of the (mini-)batch have, nor more than T / S. Without the removal of padding,
response_logits computes logits from the end of the shortest prompt on, P/2 more for each row.

Example: T = 90,112, P = 65,536, R = 4,096, n = 8, S = 4 give min(45,056, 57,344) / 4 = 11,264 for shared_prompt.
"""

from typing import Any

from omegaconf import DictConfig
from verl_longrl.engine.supported import best_engine

from recipe.longrl.parallelism import n_gpus, parallel

SHORT_PROMPTS = 0.5
"""Assumed average prompt length divided by data.max_prompt_length."""
_FUSED_CHUNK = 512
"""Tokens at a time in verl's FusedLinearForPPO."""
_CHUNK_BYTES = 16
"""Per entry of a chunk: logits, softmax, product and exponentials, in float32."""


def engine_of(config: DictConfig, model_config: Any) -> str:
    """The trainer's engine; for `auto`, the one that the preflight will choose."""
    engine = str(config.longrl.engine)
    return best_engine(config, model_config) if engine == "auto" else engine


def logit_tokens(config: DictConfig, engine: str, tokens: int, prompts: int, prompt_share: float) -> float:
    """Tokens of a micro-batch with logits, on one GPU.

    Args:
        tokens: of the micro-batch, on one GPU.
        prompts: in the batch that is divided into micro-batches.
        prompt_share: average prompt length divided by data.max_prompt_length.
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
    """Bytes of logits in the update and in the log-probability pass, which also computes the entropy.

    Our engines keep one copy in the update and write the gradient into it, as flash-attn's cross entropy does
    (verl_longrl/engine/log_probs.py). verl without flash-attn (on the CPU, or on a GPU with sdpa attention) needs three
    more: the gradients of gather, logsumexp and their sum. If rows are padded, the logits are copied out of them. The
    entropy needs softmax and product in addition (compiled, one of them in float32), or in chunks only a chunk's worth.

    Args:
        compute: bytes per number.
        update: tokens with logits in the update.
        scored: tokens with logits in the log-probability pass.
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
        # A gradient separate from the logits, and float32 tensors of the entropy's backward pass.
        held += compute + 8
    if actor.fsdp_config.entropy_from_logits_with_chunking:
        entropy = actor.fsdp_config.entropy_from_logits_chunk_size * _CHUNK_BYTES
    else:
        entropy = scored * 2 * compute
    # verl copies logits out of padded rows after it has computed their entropy.
    copied = scored * compute * unpadded
    extra = max(entropy, copied) if engine == "upstream" else entropy + copied
    # One chunk in float32, which is negligible on a GPU.
    chunk = 4 * min(update * vocabulary, CHUNK_ENTRIES) if on_cpu and engine != "upstream" else 0.0
    return update * vocabulary * held + chunk, vocabulary * (scored * compute * scaled + extra)


def _without_flash_attn(config: DictConfig) -> bool:
    override = config.actor_rollout_ref.model.override_config or {}
    return bool(override.get("attn_implementation") == "sdpa")
