"""What GPUs have beside the trainer's tensors, each by hand: attention's backward, a sleeping vLLM, its profile run."""

import pytest
from omegaconf import DictConfig
from transformers import Qwen2Config

from recipe.longrl import memory, settings
from recipe.longrl.memory import advice, generation, shapes, table
from recipe.longrl.memory.attention import attention, way_of

pytestmark = pytest.mark.engine
FSDP, ROLLOUT = "actor_rollout_ref.actor.fsdp_config", "actor_rollout_ref.rollout"
ATTENTION = "actor_rollout_ref.model.override_config.attn_implementation"
ACTOR = "actor_rollout_ref.actor"
ONE = (f"{ACTOR}.ulysses_sequence_parallel_size=1", f"{ACTOR}.ppo_max_token_len_per_gpu=90112")
SEVEN = {"vocab_size": 152064, "hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28}
SEVEN |= {"num_key_value_heads": 4, "intermediate_size": 18944, "tie_word_embeddings": False}
T, P, R = 90112, 65536, 4096
N = T - P  # responses of one group with the longest prompt
Q, K = 3584, 512  # of 28 and 4 heads of 128


def shaped(**changes: int) -> memory.Model:
    """A 7B shape with changes."""
    return memory.Model.of(Qwen2Config(architectures=["Qwen2ForCausalLM"], **{**SEVEN, **changes}))


@pytest.fixture(scope="module")
def model() -> memory.Model:
    return shaped()


@pytest.fixture
def configured(composed):
    """configured(overrides) -> the configuration of a 7B run of 64K prompts on 8 GPUs."""

    def make(*overrides: str) -> DictConfig:
        config = composed(*overrides)
        settings.resolve(config)
        return config

    return make


@pytest.fixture
def sizes(configured, model):
    return lambda *overrides: memory.estimate(configured(*overrides), model, gpu_gib=80, n_gpus=8)


def test_the_shared_prompts_backward_by_hand(configured, model):
    """All segments with themselves, whose gradients stay, then N responses with P tokens of their prompt."""
    found = attention(configured(*ONE), "shared_prompt", model.widths, 2, T)
    whole = 2 * (T * Q + 2 * T * K)
    own = whole + 2 * 2 * T * Q + 4 * T * Q
    gathered = 2 * (3 * N * Q + 2 * P * K)
    shared = gathered + 2 * (N * Q + 2 * P * K) + 2 * 2 * P * Q + 4 * N * Q
    assert found == (0, max(own, whole + shared), 0)


def test_no_prompt_is_copied_for_each_response(configured, model):
    """Merging keeps nothing beside what any layer does; the backward grows with tokens, not with rollouts."""
    few, many = (attention(configured(*ONE, f"{ROLLOUT}.n={n}"), "shared_prompt", model.widths, 2, T) for n in (2, 64))
    assert few == many


def test_flash_attns_backward_by_hand(configured, model):
    found = attention(configured(*ONE, "longrl.engine=upstream"), "upstream", model.widths, 2, T)
    assert found == (0, 2 * (T * Q + 2 * T * K) + 2 * 2 * T * Q + 4 * T * Q, 0)


def test_as_many_heads_of_keys_are_not_expanded(configured):
    widths = shaped(num_key_value_heads=28, num_hidden_layers=1).widths
    assert attention(configured(*ONE), "upstream", widths, 2, T).backward == 2 * 3 * T * Q + 4 * T * Q


def test_sequence_parallelism_divides_heads(configured, model):
    """4 GPUs: a quarter of the tokens' bytes each, one of the four key-value heads, a second output."""
    found = attention(configured("longrl.engine=upstream"), "upstream", model.widths, 2, T // 4)
    alone = attention(configured(*ONE, "longrl.engine=upstream"), "upstream", model.widths, 2, T)
    assert found.backward == alone.backward / 4
    assert found.kept == 2 * (T // 4) * Q
    eight = configured("actor_rollout_ref.actor.ulysses_sequence_parallel_size=8")
    assert attention(eight, "upstream", model.widths, 2, T // 8).kept == 2 * (T // 8) * (Q + 2 * K)  # keys repeated


def test_deterministic_mode_has_more_accumulators(configured, model):
    """132 processors over 2 segments of 28 heads: 3 float32 gradients of the queries."""
    plain, strict = (
        attention(configured(*ONE, f"{FSDP}.full_determinism={on}"), "upstream", model.widths, 2, T).backward
        for on in (False, True)
    )
    assert strict - plain == 2 * 4 * T * Q


def test_a_mask_has_an_entry_for_each_pair(configured, model, sizes):
    config = configured(*ONE, f"+{ATTENTION}=sdpa")
    assert way_of(config, "response_logits", model.widths, 2) == "masked"
    assert attention(config, "response_logits", model.widths, 2, T).mask == 3 * T**2
    masked = sizes(*ONE, f"+{ATTENTION}=sdpa", "longrl.engine=response_logits")
    plain = sizes(*ONE, "longrl.engine=response_logits")
    assert masked.update_peak >= plain.update_peak + 3 * T**2 / 2**30
    assert masked.log_prob_peak == pytest.approx(plain.log_prob_peak + 3 * T**2 / 2**30)
    rows = configured(*ONE, f"+{ATTENTION}=sdpa", "actor_rollout_ref.model.use_remove_padding=false")
    assert attention(rows, "response_logits", model.widths, 2, T).mask == 3 * T * (P + R)


@pytest.mark.parametrize(
    ("engine", "compute", "head", "way"),
    [
        ("shared_prompt", 2, 128, "merge"),
        ("shared_prompt", 4, 128, "lower_right"),
        ("shared_prompt", 2, 264, "lower_right"),
        ("shared_prompt", 2, 100, "lower_right"),
        ("upstream", 2, 128, "flash"),
    ],
)
def test_the_way_of_attention(configured, engine: str, compute: int, head: int, way: str):
    widths = shaped(hidden_size=28 * head, num_hidden_layers=1).widths
    assert way_of(configured(), engine, widths, compute) == way


def test_lower_right_copies_one_response_at_a_time(configured, model):
    found = attention(configured(*ONE), "shared_prompt", model.widths, 4, T)
    assert found.kept == 0
    assert found.backward > 4 * (T * Q + 2 * T * K) + 4 * (P + R) * 2 * (Q + K)


def test_the_cpu_has_none_of_it(configured, model):
    assert attention(configured("hardware=cpu"), "shared_prompt", model.widths, 4, T) == (0, 0, 0)


def test_attentions_backward_is_in_the_peak(configured):
    """Where it takes more than the MLP's: here of a model with a narrow one, in deterministic mode."""
    narrow = shaped(intermediate_size=1024, vocab_size=1024)
    plain, strict = (
        memory.estimate(configured(*ONE, f"{FSDP}.full_determinism={on}"), narrow, gpu_gib=80, n_gpus=8)
        for on in (False, True)
    )
    assert strict.working > plain.working
    assert strict.update_peak - plain.update_peak == pytest.approx(strict.working - plain.working)


def test_a_sleeping_vllm_is_beside_both_passes(sizes):
    asleep, awake = sizes(), sizes(f"{ROLLOUT}.free_cache_engine=false")
    assert (asleep.sleeping, awake.sleeping) == (2.0, awake.vllm)
    for phase in ("update_peak", "log_prob_peak"):
        assert getattr(awake, phase) - getattr(asleep, phase) == pytest.approx(awake.vllm - 2.0)
    cpu = ("hardware=cpu", "data.max_prompt_length=1024", "data.max_response_length=64", "trainer.n_gpus_per_node=2")
    assert sizes(*cpu, f"{ACTOR}.ppo_max_token_len_per_gpu=4096").sleeping == 0


@pytest.mark.parametrize(("reduce", "bytes_"), [("fp32", 4), ("bf16", 2)])
def test_gradients_that_are_not_exchanged_are_whole(sizes, reduce: str, bytes_: int):
    precision = f"++{FSDP}.mixed_precision={{param_dtype: bf16, reduce_dtype: {reduce}, buffer_dtype: fp32}}"
    option = f"{FSDP}.use_no_sync_for_gradient_accumulation"
    off, on = (sizes(precision, f"{option}={value}") for value in (False, True))
    more = on.parameters * bytes_ / 2**30
    assert on.gradients - off.gradients == pytest.approx(more)
    assert on.update_peak - off.update_peak == pytest.approx(more)
    assert on.log_prob_peak == off.log_prob_peak
    assert on.resident == off.resident


def test_what_to_do_about_them(configured, model):
    config = configured(f"{FSDP}.use_no_sync_for_gradient_accumulation=true", "longrl.gpu_memory_gib=40")
    found = memory.estimate(config, model, gpu_gib=40, n_gpus=8)
    fixes = advice.training(config, found, 40)
    assert "set actor.fsdp_config.use_no_sync_for_gradient_accumulation=false" in fixes


@pytest.mark.parametrize("override", [f"{ROLLOUT}.quantization=fp8", f"+{ROLLOUT}.engine_kwargs.vllm.quantization=fp8"])
def test_fp8_weights_take_a_byte(sizes, override: str):
    """Embeddings and output layer stay in bfloat16."""
    plain, fp8 = sizes(), sizes(override)
    embeddings = 2 * 152064 * 3584
    linear = plain.parameters - embeddings
    assert plain.rollout_weights * 2**30 == pytest.approx(2 * plain.parameters / 4)
    assert fp8.rollout_weights * 2**30 == pytest.approx((linear + 2 * embeddings) / 4)
    assert fp8.kv_cache - plain.kv_cache == pytest.approx(plain.rollout_weights - fp8.rollout_weights)
    assert fp8.train_state == plain.train_state


def test_other_quantisations_are_counted_as_none(sizes):
    assert sizes(f"{ROLLOUT}.quantization=torchao").rollout_weights == sizes().rollout_weights


@pytest.mark.parametrize(
    ("kind", "bytes_"),
    [("auto", 2), ("bfloat16", 2), ("float16", 2), ("fp8", 1), ("fp8_e5m2", 1), ("float32", 4), ("nvfp4", 1)],
)
@pytest.mark.parametrize("key", ["kv_cache_dtype", "kv-cache-dtype"])
def test_bytes_of_the_kv_cache(sizes, kind: str, bytes_: int, key: str):
    found = sizes(f"+{ROLLOUT}.engine_kwargs.vllm.{key}={kind}")
    assert found.kv_bytes_per_token == 2 * 28 * 1 * 128 * bytes_
    assert found.kv_tokens == int(found.kv_cache * 2**30 / found.kv_bytes_per_token)


def test_the_cache_of_a_float32_rollout(sizes):
    assert sizes(f"{ROLLOUT}.dtype=float32").kv_bytes_per_token == 2 * 28 * 128 * 4


def test_the_profile_run_by_hand(configured, model, sizes):
    """69,632 tokens: three hidden states, and of the MLP, divided by 4, gate, up and their product."""
    rollout = configured().actor_rollout_ref.rollout
    layer = 69632 * (3 * 3584 + 3 * 18944 / 4) * 2
    assert generation.profile_bytes(rollout, model.widths, 152064) == layer
    found = sizes()
    assert found.profile == pytest.approx(layer / 2**30)
    assert found.kv_cache == pytest.approx(80 * 0.6 - found.rollout_weights - found.profile)


def test_few_batched_tokens_leave_the_sampled_logits(configured, model):
    rollout = configured(f"{ROLLOUT}.max_num_seqs=1024").actor_rollout_ref.rollout
    rollout.max_num_batched_tokens = 8192
    assert generation.profile_bytes(rollout, model.widths, 152064) == 8192 * 3584 * 2 + 1024 * 152064 * 16
    rollout.max_num_seqs = 16384  # no more than there are tokens
    assert generation.profile_bytes(rollout, model.widths, 152064) == 8192 * 3584 * 2 + 8192 * 152064 * 16


def test_other_engines_in_the_table_are_not_without_flash_attn(configured, model, monkeypatch, capsys):
    """A dry run has chosen sdpa for the shared prompt's model, which says nothing about what verl would have."""
    monkeypatch.setenv("COLUMNS", "160")
    config = configured("longrl.engine=shared_prompt", f"+{ATTENTION}=sdpa")
    table.show(config, shapes.Shape(model.config, "by hand"), (P,))
    row = next(line for line in capsys.readouterr().out.splitlines() if "(verl)" in line)
    assert row.split("│")[2].strip() == "6.38"  # 22,528 tokens of 152,064 words in bfloat16, once


def test_a_cache_that_only_fits_without_the_profile_run(sizes):
    few, many = (sizes(f"{ROLLOUT}.max_num_batched_tokens={tokens}") for tokens in (8192, 69632))
    assert few.kv_tokens > many.kv_tokens


def test_upstream_without_flash_attn_keeps_four_copies_of_its_logits(sizes):
    with_, without = (sizes("longrl.engine=upstream", *ONE, f"+{ATTENTION}={a}") for a in ("flash_attention_2", "sdpa"))
    assert without.logits == 4 * with_.logits
    ours = [sizes("longrl.engine=response_logits", *ONE, f"+{ATTENTION}={a}") for a in ("flash_attention_2", "sdpa")]
    assert ours[0].logits == ours[1].logits
