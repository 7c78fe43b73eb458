"""The runs for which our engines compute the same function as verl's, and the reasons why others are not supported.

Each reason is one line for users. This module needs neither torch nor verl.

`config` is the whole run configuration, with attributes as Hydra's; `model` is the model's Hugging Face config.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

Engine = Literal["shared_prompt", "response_logits", "upstream"]
"""Best first."""
ENGINES: tuple[str, ...] = get_args(Engine)

VENDOR = "longrl_{}"
"""The vendor under which verl's registry has an engine. verl chooses by device and vendor (VERL_ENGINE_VENDOR)."""

MODELS = frozenset(
    {"ernie4_5", "glm4", "glm4_moe", "granite", "llama", "mistral", "mixtral", "olmo2", "qwen2", "qwen2_moe", "qwen3"}
    | {"qwen3_moe", "seed_oss", "smollm3"}
)
"""Model types that use plain causal attention through transformers' attention interface. Each is tested."""

LOSSES_ACROSS_TOKENS = ("clip_cov", "kl_cov")
"""Policy losses that select tokens by comparing them within a micro-batch."""


def best_engine(config: Any, model: Any | None) -> str:
    """The first of ENGINES that supports the run."""
    return next(engine for engine in ENGINES if not unsupported_reasons(engine, config, model))


def unsupported_reasons(engine: str, config: Any, model: Any | None) -> list[str]:
    """Why an engine of ENGINES does not support the run; empty if it does.

    model: None if it cannot be read before the start.
    """
    return _REASONS[engine](config, model)


def unsupported_model_reasons(model: Any) -> list[str]:
    """Why the prompts of a model cannot be computed once; empty if they can."""
    text = model.get_text_config()
    reasons = []
    if text.model_type not in MODELS:
        reasons.append(f"model type {text.model_type} is not among those tested")
    reasons += _multimodal_reasons(model)
    # transformers ignores sliding_window if use_sliding_window is false. Models without that key always use it.
    window = getattr(text, "sliding_window", None)
    uses_window = window and getattr(text, "use_sliding_window", True)
    if uses_window or "sliding_attention" in (getattr(text, "layer_types", None) or ()):
        reasons.append(f"layers with a sliding window of {window} tokens")
    dropouts = {name: value for name, value in vars(text).items() if name.endswith("dropout") and value}
    if dropouts:
        reasons.append(", ".join(f"{name} = {value}" for name, value in dropouts.items()))
    # The name in transformers 5, then the one in earlier versions.
    rope = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    if rope.get("rope_type") in ("dynamic", "longrope"):
        reasons.append(f"rope_type {rope.get('rope_type')} depends on the longest sequence computed together")
    if getattr(text, "output_router_logits", False):
        reasons.append("output_router_logits: the router's auxiliary loss would count each prompt once")
    return reasons


def _multimodal_reasons(model: Any) -> list[str]:
    return [] if model.get_text_config() is model else [f"{model.model_type} has inputs other than text"]


def _response_logits_reasons(config: Any, model: Any | None) -> list[str]:
    roles = config.actor_rollout_ref
    # The keys below exist only for FSDP2.
    if roles.actor.strategy != "fsdp2":
        return [f"actor.strategy = {roles.actor.strategy}: only fsdp2 is supported"]
    reasons = []
    if roles.model.use_fused_kernels:
        reasons.append("model.use_fused_kernels = true replaces the forward pass")
    if config.distillation.enabled:
        reasons.append("distillation.enabled = true: the distillation loss needs logits at every token")
    if roles.actor.calculate_sum_pi_squared:
        reasons.append("actor.calculate_sum_pi_squared = true needs logits at every token")
    return reasons + (_multimodal_reasons(model) if model is not None else [])


def _shared_prompt_reasons(config: Any, model: Any | None) -> list[str]:
    actor = config.actor_rollout_ref.actor
    reasons = _response_logits_reasons(config, model)
    reasons += unsupported_model_reasons(model) if model is not None else []
    if actor.strategy != "fsdp2":
        return reasons
    if not actor.use_dynamic_bsz:
        reasons.append("actor.use_dynamic_bsz = false sizes micro-batches in rows, not in tokens")
    if actor.fsdp_config.pad_to_length:
        reasons.append("actor.fsdp_config.pad_to_length pads rows to one length")
    if actor.loss_agg_mode == "seq-mean-token-sum-norm" and actor.loss_scale_factor is None:
        reasons.append(
            "actor.loss_agg_mode = seq-mean-token-sum-norm without actor.loss_scale_factor divides by the longest "
            "response of a micro-batch"
        )
    if actor.policy_loss.loss_mode in LOSSES_ACROSS_TOKENS:
        reasons.append(
            f"actor.policy_loss.loss_mode = {actor.policy_loss.loss_mode} compares tokens within a micro-batch"
        )
    if actor.shuffle:
        reasons.append("actor.shuffle = true separates the rows of a prompt")
    # The model's reasons may repeat those of the response_logits engine.
    return list(dict.fromkeys(reasons))


_REASONS: dict[str, Callable[[Any, Any | None], list[str]]] = {
    "shared_prompt": _shared_prompt_reasons,
    "response_logits": _response_logits_reasons,
    "upstream": lambda config, model: [],
}
