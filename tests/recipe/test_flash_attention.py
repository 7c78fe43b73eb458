"""The attention that is chosen with and without flash-attn, its cost, and the settings that are refused."""

import importlib.util

import pytest
from transformers import Qwen2Config

from recipe.longrl import engine_choice, flash_attention, run_identity, settings

pytestmark = pytest.mark.engine
KEY = "actor_rollout_ref.model.override_config.attn_implementation"
ONE = "actor_rollout_ref.actor.ulysses_sequence_parallel_size=1"


@pytest.fixture
def chosen(composed, monkeypatch):
    """chosen(overrides, here=whether flash-attn is installed) -> the implementation and its line."""

    def run(*overrides: str, here: bool = False, dry_run: bool = False):
        monkeypatch.setattr(flash_attention, "installed", lambda: here)
        monkeypatch.setattr(flash_attention, "installed_version", lambda name: "2.8.3" if here else None)
        config = composed(*overrides)
        settings.resolve(config)
        list(engine_choice.decide_engine(config, Qwen2Config()))
        lines = list(flash_attention.choose_attention(config, dry_run))
        return settings.OmegaConf.select(config, KEY), *((line.status, line.detail) for line in lines)

    return run


@pytest.mark.parametrize("here", [False, True])
def test_the_shared_prompt_needs_none(chosen, here: bool):
    """So it is the same choice on every node, whatever is installed there."""
    attention, (status, detail) = chosen(here=here)
    assert (attention, status) == ("sdpa", "ok")
    assert "the shared prompt's attention, in torch; flash-attn is not needed" in detail


@pytest.mark.parametrize("name", ["response_logits", "upstream"])
def test_it_is_chosen_where_it_is_installed(chosen, name: str):
    attention, line = chosen(f"longrl.engine={name}", here=True)
    assert (attention, line) == ("flash_attention_2", ("ok", "flash_attention_2, with flash-attn 2.8.3"))


def test_without_it_upstreams_ulysses_is_refused(chosen):
    """transformers' sdpa is not exchanged for heads: every GPU would attend to its own part of the tokens."""
    attention, (status, detail) = chosen("longrl.engine=response_logits")
    assert (attention, status) == ("flash_attention_2", "FAIL")
    assert "sdpa does not work with actor_rollout_ref.actor.ulysses_sequence_parallel_size = 4" in detail
    assert chosen("longrl.engine=response_logits", dry_run=True)[1][0] == "warn"


@pytest.mark.parametrize("given", flash_attention.WITHOUT_ULYSSES)
def test_ulysses_with_an_attention_that_does_not_know_it_is_refused(chosen, given: str):
    for here in (False, True):
        status, detail = chosen("longrl.engine=upstream", f"+{KEY}={given}", here=here, dry_run=True)[1]
        assert status == "FAIL"
        assert f"{KEY} = {given} does not work with" in detail
    assert chosen(f"+{KEY}={given}")[1][0] == "ok"  # the shared prompt exchanges by itself
    assert chosen("longrl.engine=upstream", ONE, f"+{KEY}={given}")[1][0] == "ok"


def test_without_ulysses_sdpa_has_a_price(chosen):
    more = [ONE, "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=69632"]
    attention, (status, detail) = chosen("longrl.engine=response_logits", *more)
    assert (attention, status) == ("sdpa", "warn")
    assert "each micro-batch has a mask of 69,632 x 69,632 tokens (13.5 GiB in bytes and in bfloat16)" in detail
    assert "row by row" not in detail
    assert "longrl.engine=auto" in detail
    detail = chosen("longrl.engine=upstream", *more)[1][1]
    assert "log-probabilities are computed row by row, with three more copies of the logits" in detail


def test_what_the_user_set_stays(chosen, monkeypatch):
    attention, (status, detail) = chosen("longrl.engine=upstream", ONE, f"+{KEY}=kernels-community/flash-attn2")
    assert (attention, status) == ("kernels-community/flash-attn2", "ok")
    attention, (status, detail) = chosen(f"+{KEY}=flash_attention_2")
    assert (attention, status) == ("flash_attention_2", "FAIL")
    assert f"{KEY} = flash_attention_2: flash-attn is not installed here. Fix" in detail


def test_a_driver_without_it_may_have_nodes_with_it(chosen, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    attention, (status, detail) = chosen("longrl.engine=upstream", f"+{KEY}=flash_attention_2")
    assert (attention, status) == ("flash_attention_2", "warn")
    assert "every node that trains needs it" in detail


def test_a_critic_is_upstreams(chosen):
    """It has an engine and a parallelism of its own."""
    attention, actor, critic = chosen("critic.enable=true")
    assert (attention, actor[0]) == ("sdpa", "ok")
    assert critic[0] == "warn"
    assert "sdpa, because flash-attn is not installed here" in critic[1]
    assert "row by row" in critic[1]


@pytest.mark.parametrize("overrides", [["hardware=cpu"], ["hardware=128gpu-megatron"]])
def test_others_have_their_own(chosen, overrides: list[str]):
    assert len(chosen(*overrides)) == 1


def test_the_distribution_and_its_kernels_make_it_installed(monkeypatch):
    """flash-attn-4 has a folder of the same name, without them."""
    monkeypatch.setattr(flash_attention, "installed_version", {"flash-attn": "2.8.3"}.get)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == "flash_attn" else None)
    assert not flash_attention.installed()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert flash_attention.installed()
    monkeypatch.setattr(flash_attention, "installed_version", {"flash-attn-4": "4.0"}.get)
    assert not flash_attention.installed()


def test_a_run_continues_with_the_attention_that_is_there_now(composed, tmp_path, monkeypatch):
    """The folder is checked before the attention is chosen, and stored after it."""
    config = composed(f"longrl.output_dir={tmp_path}")
    settings.resolve(config)
    before = config.copy()
    list(flash_attention.choose_attention(config, dry_run=True))
    run_identity.store_config(config)
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    assert run_identity.check_folder(before).startswith("continues")


def test_verl_still_asks_for_it():
    import inspect

    from verl.models.transformers import monkey_patch
    from verl.workers.config import HFModelConfig

    assert 'get("attn_implementation", "flash_attention_2")' in inspect.getsource(HFModelConfig)
    patch = inspect.getsource(monkey_patch.apply_monkey_patch)
    assert "flash_attention._flash_attention_forward = _ulysses_flash_attention_forward" in patch
