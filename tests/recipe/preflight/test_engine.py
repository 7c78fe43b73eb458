"""The engine that trains: the best that is exact; one that was asked for and is not is refused, with the reasons."""

import pytest
from transformers import Gemma2Config, LlamaConfig, Qwen2Config

from recipe.longrl import engine_choice, settings

pytestmark = pytest.mark.engine
ACTOR, MODEL = "actor_rollout_ref.actor", "actor_rollout_ref.model"
VENDOR = "ray_kwargs.ray_init.runtime_env.env_vars.VERL_ENGINE_VENDOR"


@pytest.fixture
def decided(composed):
    """decided(shape, overrides) -> the configuration after the decision, and its line."""

    def run(shape, *overrides):
        config = composed(*overrides)
        (line,) = engine_choice.decide_engine(config, shape)
        return config, line

    return run


def handed_over(config):
    """What workers are told: the engine's vendor, the modules they import."""
    return settings.OmegaConf.select(config, VENDOR), config.actor_rollout_ref.model.external_lib


@pytest.mark.parametrize(
    "overrides",
    [
        ["method=longrlvr", "hardware=8gpu"],
        ["method=loongrl", "hardware=16gpu"],
        ["method=golongrl", "hardware=128gpu"],
        ["method=outcome_only", "hardware=1gpu"],
    ],
)
def test_shared_prompt_is_the_default(decided, overrides):
    config, line = decided(Qwen2Config(), *overrides)
    assert line.status == "ok"
    assert line.detail.startswith("shared_prompt: each prompt is computed once")
    assert config.longrl.engine == "shared_prompt"
    assert handed_over(config) == ("longrl_shared_prompt", ["verl_longrl.engine.register"])


@pytest.mark.parametrize(
    ("override", "engine_left", "reason"),
    [
        (f"{MODEL}.use_fused_kernels=true", "upstream", "model.use_fused_kernels = true replaces the forward pass"),
        (f"{ACTOR}.strategy=fsdp", "upstream", "actor.strategy = fsdp: only fsdp2 is supported"),
        (
            f"{ACTOR}.calculate_sum_pi_squared=true",
            "upstream",
            "calculate_sum_pi_squared = true needs logits at every token",
        ),
        ("distillation.enabled=true", "upstream", "distillation.enabled"),
        (f"{ACTOR}.use_dynamic_bsz=false", "response_logits", "sizes micro-batches in rows"),
        (f"{ACTOR}.pad_to_length=true", "response_logits", "pad_to_length pads rows to one length"),
        (f"{ACTOR}.shuffle=true", "response_logits", "separates the rows of a prompt"),
        (f"{ACTOR}.policy_loss.loss_mode=kl_cov", "response_logits", "compares tokens within a micro-batch"),
        (
            f"{ACTOR}.loss_agg_mode=seq-mean-token-sum-norm",
            "response_logits",
            "divides by the longest response of a micro-batch",
        ),
    ],
)
def test_what_is_not_exact_is_passed_over_and_refused_when_asked_for(decided, override, engine_left, reason):
    config, line = decided(Qwen2Config(), override)
    assert (config.longrl.engine, line.status) == (engine_left, "ok")
    assert reason in line.detail
    _, refused = decided(Qwen2Config(), override, "longrl.engine=shared_prompt")
    assert refused.status == "FAIL"
    assert reason in refused.detail
    assert f"Fix: longrl.engine=auto (here {engine_left})" in refused.detail


def test_a_scale_for_the_loss_makes_it_exact(decided):
    overrides = [f"{ACTOR}.loss_agg_mode=seq-mean-token-sum-norm", f"{ACTOR}.loss_scale_factor=4096"]
    assert decided(Qwen2Config(), *overrides)[0].longrl.engine == "shared_prompt"


def test_the_models_attention_decides(decided):
    config, line = decided(Gemma2Config())
    assert config.longrl.engine == "response_logits"
    assert "model type gemma2 is not among those tested" in line.detail
    assert handed_over(config)[0] == "longrl_response_logits"
    assert decided(LlamaConfig())[0].longrl.engine == "shared_prompt"
    assert decided(None)[0].longrl.engine == "shared_prompt"  # unreadable here: the worker looks again


def test_one_switch_turns_it_off(decided):
    config, line = decided(Qwen2Config(), "longrl.engine=upstream")
    assert line.detail == "upstream: prompts are computed for each rollout, logits at all tokens"
    assert handed_over(config) == (None, None)
    assert handed_over(decided(Qwen2Config(), "longrl.engine=response_logits")[0])[0] == "longrl_response_logits"


def test_megatron_is_upstreams(decided):
    assert decided(Qwen2Config(), "hardware=128gpu-megatron")[0].longrl.engine == "upstream"


def test_libraries_of_the_user_stay(decided):
    config, _ = decided(Qwen2Config(), f"{MODEL}.external_lib=mine")
    assert handed_over(config)[1] == ["mine", "verl_longrl.engine.register"]
    list(engine_choice.decide_engine(config, Qwen2Config()))
    assert handed_over(config)[1] == ["mine", "verl_longrl.engine.register"]


def test_an_unknown_engine_is_refused(composed):
    with pytest.raises(settings.SettingsError, match=r"longrl.engine = 'fast': expected one of auto, shared_prompt"):
        settings.resolve(composed("longrl.engine=fast"))


def test_upstreams_registry_finds_what_was_handed_over(monkeypatch):
    import verl_longrl.engine.register  # noqa: F401
    from verl.workers.engine import EngineRegistry
    from verl_longrl.engine.response_logits import ResponseLogitsEngine
    from verl_longrl.engine.shared_prompt import SharedPromptEngine

    monkeypatch.setenv("VERL_ENGINE_DEVICE", "cuda")
    for name, kind in (("shared_prompt", SharedPromptEngine), ("response_logits", ResponseLogitsEngine)):
        monkeypatch.setenv("VERL_ENGINE_VENDOR", f"longrl_{name}")
        assert EngineRegistry.get_engine_cls("language_model", "fsdp2") is kind
        assert EngineRegistry.get_engine_cls("value_model", "fsdp2").__name__ == "FSDPEngineWithValueHead"
