"""Choose the trainer's engine: the fastest that computes the same function as verl's, or the one that is set.

`longrl.engine=auto` becomes one of `verl_longrl.engine.supported.ENGINES`. The settings by which verl finds the engine
(a module to import, a variable in every worker) are derived from it.
"""

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from verl_longrl.engine.supported import ENGINES, VENDOR, best_engine, unsupported_reasons

from recipe.longrl.preflight.check import Check

MODULE = "verl_longrl.engine.register"
MEANS = {
    "shared_prompt": "each prompt is computed once for all its rollouts, logits only at responses",
    "response_logits": "prompts are computed for each rollout, logits only at responses",
    "upstream": "prompts are computed for each rollout, logits at all tokens",
}


def decide_engine(config: DictConfig, shape: Any | None) -> Iterator[Check]:
    """Set `longrl.engine` in place and give the reasons.

    shape: the model's Hugging Face config, None if it cannot be read.
    """
    setting = config.longrl.engine
    engine = best_engine(config, shape) if setting == "auto" else setting
    if obstacles := unsupported_reasons(engine, config, shape):
        yield Check(
            "engine",
            "FAIL",
            f"longrl.engine = {setting}: would not compute the same function as verl's engine: {'; '.join(obstacles)}. "
            f"Fix: longrl.engine=auto (here {best_engine(config, shape)})",
        )
        return
    config.longrl.engine = engine
    _hand_over(config, engine)
    better = [] if setting != "auto" else ENGINES[: ENGINES.index(engine)]
    reasons = "".join(f"; not {other}: {', '.join(unsupported_reasons(other, config, shape))}" for other in better)
    yield Check("engine", "ok", f"{engine}: {MEANS[engine]}{reasons}")


def _hand_over(config: DictConfig, engine: str) -> None:
    """Make every worker import and find the engine."""
    if engine == "upstream":
        return
    model = config.actor_rollout_ref.model
    libraries = model.external_lib or []
    libraries = list(libraries) if isinstance(libraries, list | ListConfig) else [libraries]
    with open_dict(config):
        model.external_lib = [*libraries, *([] if MODULE in libraries else [MODULE])]
        OmegaConf.update(config, "ray_kwargs.ray_init.runtime_env.env_vars.VERL_ENGINE_VENDOR", VENDOR.format(engine))
