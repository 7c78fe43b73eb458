"""Which engine trains: the best that computes the same function as verl's, or the one that was asked for.

`longrl.engine=auto` becomes one of `verl_longrl.engine.supported.ENGINES`; what verl needs to find it (a module to
import, a variable in every worker) follows from it.
"""

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from verl_longrl.engine.supported import ENGINES, VENDOR, best_engine, unsupported_reasons

from recipe.longrl.preflight.check import Check

MODULE = "verl_longrl.engine.register"
MEANS = {
    "shared_prompt": "each prompt is computed once for its rollouts, logits at responses alone",
    "response_logits": "prompts are computed for each rollout, logits at responses alone",
    "upstream": "prompts are computed for each rollout, with logits",
}


def decide(config: DictConfig, shape: Any | None) -> Iterator[Check]:
    """Set `longrl.engine`, in place, and say why. shape: the model's Hugging Face config, None if it cannot be read."""
    asked = config.longrl.engine
    engine = best_engine(config, shape) if asked == "auto" else asked
    if against := unsupported_reasons(engine, config, shape):
        yield Check(
            "engine",
            "FAIL",
            f"longrl.engine = {asked} would not compute what verl's does: {'; '.join(against)}. Set "
            f"longrl.engine=auto (here {best_engine(config, shape)})",
        )
        return
    config.longrl.engine = engine
    _hand_over(config, engine)
    better = [] if asked != "auto" else ENGINES[: ENGINES.index(engine)]
    reasons = "".join(f"; not {other}: {', '.join(unsupported_reasons(other, config, shape))}" for other in better)
    yield Check("engine", "ok", f"{engine}: {MEANS[engine]}{reasons}")


def _hand_over(config: DictConfig, engine: str) -> None:
    """Have every worker load and find the engine."""
    if engine == "upstream":
        return
    model = config.actor_rollout_ref.model
    libraries = model.external_lib or []
    libraries = list(libraries) if isinstance(libraries, list | ListConfig) else [libraries]
    with open_dict(config):
        model.external_lib = [*libraries, *([] if MODULE in libraries else [MODULE])]
        OmegaConf.update(config, "ray_kwargs.ray_init.runtime_env.env_vars.VERL_ENGINE_VENDOR", VENDOR.format(engine))
