"""For which runs computing each prompt once, or logits at responses alone, is the same function as verl's.

Each problem is one line for people: what stands against it. Needs neither torch nor verl.

`config` is the whole run configuration, with attributes as Hydra's; `model` the model's Hugging Face config.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

Engine = Literal["shared_prompt", "response_logits", "upstream"]
"""Best first."""
ENGINES: tuple[str, ...] = get_args(Engine)

VENDOR = "longrl_{}"
"""Under which verl's registry has an engine; it finds one by its device and vendor (VERL_ENGINE_VENDOR)."""

MODELS = frozenset(
    {"ernie4_5", "glm4", "glm4_moe", "granite", "llama", "mistral", "mixtral", "olmo2", "qwen2", "qwen2_moe", "qwen3"}
    | {"qwen3_moe", "seed_oss", "smollm3"}
)
"""Model types whose attention is plain causal attention through transformers' attention interface, each tested."""

COMPARING = ("clip_cov", "kl_cov")
"""Policy losses that pick tokens by comparing them within a micro-batch."""


def model_problems(model: Any) -> list[str]:
    """What in the model stands against computing prompts once."""
    text = model.get_text_config()
    rope = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    drops = {name: value for name, value in vars(text).items() if name.endswith("dropout") and value}
    slides = getattr(text, "sliding_window", None) and getattr(text, "use_sliding_window", True)
    return [
        problem
        for found, problem in (
            (text.model_type not in MODELS, f"model type {text.model_type} is not among those tested"),
            (text is not model, f"{model.model_type} reads more than text"),
            (
                slides or "sliding_attention" in (getattr(text, "layer_types", None) or ()),
                f"layers with a sliding window of {getattr(text, 'sliding_window', None)} tokens",
            ),
            (drops, ", ".join(f"{name} = {value}" for name, value in drops.items())),
            (
                rope.get("rope_type") in ("dynamic", "longrope"),
                f"rope_type {rope.get('rope_type')} looks at the longest sequence computed together",
            ),
            (
                getattr(text, "output_router_logits", False),
                "output_router_logits: the router's auxiliary loss would see each prompt once",
            ),
        )
        if found
    ]


def best(config: Any, model: Any | None) -> str:
    """The first of ENGINES that nothing stands against."""
    return next(engine for engine in ENGINES if not problems(engine, config, model))


def problems(engine: str, config: Any, model: Any | None) -> list[str]:
    """What stands against an engine, of ENGINES. model: None where it cannot be read before the start."""
    return _PROBLEMS[engine](config, model)


def _response_logits(config: Any, model: Any | None) -> list[str]:
    roles = config.actor_rollout_ref
    if roles.actor.strategy != "fsdp2":  # others have other keys
        return [f"actor.strategy = {roles.actor.strategy}, only fsdp2 is known to work"]
    return [
        problem
        for found, problem in (
            (roles.model.use_fused_kernels, "model.use_fused_kernels replaces the forward pass"),
            (config.distillation.enabled, "distillation.enabled: teachers' values stand at all tokens"),
            (roles.actor.calculate_sum_pi_squared, "actor.calculate_sum_pi_squared reads logits of all tokens"),
            (
                model is not None and model.get_text_config() is not model,
                f"{getattr(model, 'model_type', None)} reads more than text",
            ),
        )
        if found
    ]


def _shared_prompt(config: Any, model: Any | None) -> list[str]:
    actor = config.actor_rollout_ref.actor
    found = _response_logits(config, model) + (model_problems(model) if model is not None else [])
    if actor.strategy != "fsdp2":
        return found
    found += [
        problem
        for wrong, problem in (
            (not actor.use_dynamic_bsz, "actor.use_dynamic_bsz = false: micro-batches of rows, not of tokens"),
            (actor.fsdp_config.pad_to_length, "actor.fsdp_config.pad_to_length: rows of one length"),
            (
                actor.loss_agg_mode == "seq-mean-token-sum-norm" and actor.loss_scale_factor is None,
                "actor.loss_agg_mode = seq-mean-token-sum-norm without actor.loss_scale_factor divides by the longest "
                "response of a micro-batch",
            ),
            (
                actor.policy_loss.loss_mode in COMPARING,
                f"actor.policy_loss.loss_mode = {actor.policy_loss.loss_mode} compares tokens within a micro-batch",
            ),
            (actor.shuffle, "actor.shuffle = true: mini-batches of rows at random, apart from their prompt's others"),
        )
        if wrong
    ]
    return list(dict.fromkeys(found))


_PROBLEMS: dict[str, Callable[[Any, Any | None], list[str]]] = {
    "shared_prompt": _shared_prompt,
    "response_logits": _response_logits,
    "upstream": lambda config, model: [],
}
