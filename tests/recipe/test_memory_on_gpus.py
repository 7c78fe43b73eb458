"""Memory on GPUs besides the trainer's tensors, compared with formulas: attention, a sleeping vLLM, its profile run."""

import pytest
from omegaconf import DictConfig
from transformers import Qwen2Config

from recipe.longrl import memory, settings
from recipe.longrl.memory import advice, generation, shapes, table
from recipe.longrl.memory.attention import estimate_attention, predict_backend

pytestmark = pytest.mark.engine
FSDP, ROLLOUT = "actor_rollout_ref.actor.fsdp_config", "actor_rollout_ref.rollout"
ATTENTION = "actor_rollout_ref.model.override_config.attn_implementation"
ACTOR = "actor_rollout_ref.actor"
ONE = (f"{ACTOR}.ulysses_sequence_parallel_size=1", f"{ACTOR}.ppo_max_token_len_per_gpu=90112")
SEVEN = {"vocab_size": 152064, "hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28}
SEVEN |= {"num_key_value_heads": 4, "intermediate_size": 18944, "tie_word_embeddings": False}
T, P, R = 90112, 65536, 4096
N = T - P  # Tokens of the responses in one group with the longest prompt.
Q, K = 3584, 512  # 28 and 4 heads of 128.


def sizes_of_7b(**changes: int) -> memory.ModelSizes:
    """The sizes of a 7B model with changes."""
    return memory.ModelSizes.of(Qwen2Config(architectures=["Qwen2ForCausalLM"], **{**SEVEN, **changes}))


@pytest.fixture(scope="module")
def model() -> memory.ModelSizes:
    return sizes_of_7b()


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


def test_bytes_of_the_shared_prompts_backward(configured, model):
    """All segments with themselves, whose gradients remain, then N response tokens with P tokens of their prompt."""
    estimated = estimate_attention(configured(*ONE), "shared_prompt", model.widths, 2, T)
    whole = 2 * (T * Q + 2 * T * K)
    self_part = whole + 2 * 2 * T * Q + 4 * T * Q
    gathered = 2 * (3 * N * Q + 2 * P * K)
    cross_part = gathered + 2 * (N * Q + 2 * P * K) + 2 * 2 * P * Q + 4 * N * Q
    assert estimated == (0, max(self_part, whole + cross_part), 0)


def test_no_prompt_is_copied_for_each_response(configured, model):
    """Merging keeps nothing more than any layer does; the backward grows with tokens, not with rollouts."""
    few, many = (
        estimate_attention(configured(*ONE, f"{ROLLOUT}.n={n}"), "shared_prompt", model.widths, 2, T) for n in (2, 64)
    )
    assert few == many


def test_bytes_of_flash_attns_backward(configured, model):
    estimated = estimate_attention(configured(*ONE, "longrl.engine=upstream"), "upstream", model.widths, 2, T)
    assert estimated == (0, 2 * (T * Q + 2 * T * K) + 2 * 2 * T * Q + 4 * T * Q, 0)


def test_as_many_key_heads_are_not_expanded(configured):
    widths = sizes_of_7b(num_key_value_heads=28, num_hidden_layers=1).widths
    assert estimate_attention(configured(*ONE), "upstream", widths, 2, T).backward == 2 * 3 * T * Q + 4 * T * Q


def test_sequence_parallelism_divides_heads(configured, model):
    """On each of 4 GPUs: a quarter of the bytes, one of the four key-value heads, a second copy of the output."""
    estimated = estimate_attention(configured("longrl.engine=upstream"), "upstream", model.widths, 2, T // 4)
    alone = estimate_attention(configured(*ONE, "longrl.engine=upstream"), "upstream", model.widths, 2, T)
    assert estimated.backward == alone.backward / 4
    assert estimated.kept == 2 * (T // 4) * Q
    eight = configured("actor_rollout_ref.actor.ulysses_sequence_parallel_size=8")
    assert estimate_attention(eight, "upstream", model.widths, 2, T // 8).kept == 2 * (T // 8) * (
        Q + 2 * K
    )  # Keys are repeated.


def test_deterministic_mode_has_more_accumulators(configured, model):
    """132 processors over 2 segments of 28 heads: 3 float32 gradients of the queries."""
    plain, strict = (
        estimate_attention(configured(*ONE, f"{FSDP}.full_determinism={on}"), "upstream", model.widths, 2, T).backward
        for on in (False, True)
    )
    assert strict - plain == 2 * 4 * T * Q


def test_a_mask_has_an_entry_for_each_pair(configured, model, sizes):
    config = configured(*ONE, f"+{ATTENTION}=sdpa")
    assert predict_backend(config, "response_logits", model.widths, 2) == "masked"
    assert estimate_attention(config, "response_logits", model.widths, 2, T).mask == 3 * T**2
    masked = sizes(*ONE, f"+{ATTENTION}=sdpa", "longrl.engine=response_logits")
    plain = sizes(*ONE, "longrl.engine=response_logits")
    assert masked.update_peak >= plain.update_peak + 3 * T**2 / 2**30
    assert masked.log_prob_peak == pytest.approx(plain.log_prob_peak + 3 * T**2 / 2**30)
    rows = configured(*ONE, f"+{ATTENTION}=sdpa", "actor_rollout_ref.model.use_remove_padding=false")
    assert estimate_attention(rows, "response_logits", model.widths, 2, T).mask == 3 * T * (P + R)


@pytest.mark.parametrize(
    ("engine", "compute", "head", "backend"),
    [
        ("shared_prompt", 2, 128, "lse_merge"),
        ("shared_prompt", 4, 128, "lower_right"),
        ("shared_prompt", 2, 264, "lower_right"),
        ("shared_prompt", 2, 100, "lower_right"),
        ("upstream", 2, 128, "flash"),
    ],
)
def test_the_backend_of_attention(configured, engine: str, compute: int, head: int, backend: str):
    widths = sizes_of_7b(hidden_size=28 * head, num_hidden_layers=1).widths
    assert predict_backend(configured(), engine, widths, compute) == backend


def test_lower_right_copies_one_response_at_a_time(configured, model):
    estimated = estimate_attention(configured(*ONE), "shared_prompt", model.widths, 4, T)
    assert estimated.kept == 0
    assert estimated.backward > 4 * (T * Q + 2 * T * K) + 4 * (P + R) * 2 * (Q + K)


def test_no_attention_bytes_on_the_cpu(configured, model):
    assert estimate_attention(configured("hardware=cpu"), "shared_prompt", model.widths, 4, T) == (0, 0, 0)


def test_the_peak_includes_attentions_backward(configured):
    """If it takes more than the MLP's: here with a narrow MLP, in deterministic mode."""
    narrow = sizes_of_7b(intermediate_size=1024, vocab_size=1024)
    plain, strict = (
        memory.estimate(configured(*ONE, f"{FSDP}.full_determinism={on}"), narrow, gpu_gib=80, n_gpus=8)
        for on in (False, True)
    )
    assert strict.working > plain.working
    assert strict.update_peak - plain.update_peak == pytest.approx(strict.working - plain.working)


def test_a_sleeping_vllm_is_in_both_peaks(sizes):
    asleep, awake = sizes(), sizes(f"{ROLLOUT}.free_cache_engine=false")
    assert (asleep.sleeping, awake.sleeping) == (2.0, awake.vllm)
    for phase in ("update_peak", "log_prob_peak"):
        assert getattr(awake, phase) - getattr(asleep, phase) == pytest.approx(awake.vllm - 2.0)
    cpu = ("hardware=cpu", "data.max_prompt_length=1024", "data.max_response_length=64", "trainer.n_gpus_per_node=2")
    assert sizes(*cpu, f"{ACTOR}.ppo_max_token_len_per_gpu=4096").sleeping == 0


@pytest.mark.parametrize(("reduce", "bytes_"), [("fp32", 4), ("bf16", 2)])
def test_gradients_are_whole_until_they_are_exchanged(sizes, reduce: str, bytes_: int):
    precision = f"++{FSDP}.mixed_precision={{param_dtype: bf16, reduce_dtype: {reduce}, buffer_dtype: fp32}}"
    option = f"{FSDP}.use_no_sync_for_gradient_accumulation"
    off, on = (sizes(precision, f"{option}={value}") for value in (False, True))
    more = on.parameters * bytes_ / 2**30
    assert on.gradients - off.gradients == pytest.approx(more)
    assert on.update_peak - off.update_peak == pytest.approx(more)
    assert on.log_prob_peak == off.log_prob_peak
    assert on.resident == off.resident


def test_the_fix_for_whole_gradients(configured, model):
    config = configured(f"{FSDP}.use_no_sync_for_gradient_accumulation=true", "longrl.gpu_memory_gib=40")
    estimated = memory.estimate(config, model, gpu_gib=40, n_gpus=8)
    fixes = advice.training_fixes(config, estimated, 40)
    assert "set actor.fsdp_config.use_no_sync_for_gradient_accumulation=false" in fixes


@pytest.mark.parametrize("override", [f"{ROLLOUT}.quantization=fp8", f"+{ROLLOUT}.engine_kwargs.vllm.quantization=fp8"])
def test_fp8_weights_take_one_byte(sizes, override: str):
    """Embeddings and output layer stay in bfloat16."""
    plain, fp8 = sizes(), sizes(override)
    embeddings = 2 * 152064 * 3584
    linear = plain.parameters - embeddings
    assert plain.rollout_weights * 2**30 == pytest.approx(2 * plain.parameters / 4)
    assert fp8.rollout_weights * 2**30 == pytest.approx((linear + 2 * embeddings) / 4)
    assert fp8.kv_cache - plain.kv_cache == pytest.approx(plain.rollout_weights - fp8.rollout_weights)
    assert fp8.train_state == plain.train_state


def test_other_quantizations_are_ignored(sizes):
    assert sizes(f"{ROLLOUT}.quantization=torchao").rollout_weights == sizes().rollout_weights


@pytest.mark.parametrize(
    ("kind", "bytes_"),
    [("auto", 2), ("bfloat16", 2), ("float16", 2), ("fp8", 1), ("fp8_e5m2", 1), ("float32", 4), ("nvfp4", 1)],
)
@pytest.mark.parametrize("key", ["kv_cache_dtype", "kv-cache-dtype"])
def test_bytes_of_the_kv_cache(sizes, kind: str, bytes_: int, key: str):
    estimated = sizes(f"+{ROLLOUT}.engine_kwargs.vllm.{key}={kind}")
    assert estimated.kv_bytes_per_token == 2 * 28 * 1 * 128 * bytes_
    assert estimated.kv_tokens == int(estimated.kv_cache * 2**30 / estimated.kv_bytes_per_token)


def test_the_cache_of_a_float32_rollout(sizes):
    assert sizes(f"{ROLLOUT}.dtype=float32").kv_bytes_per_token == 2 * 28 * 128 * 4


def test_bytes_of_the_profile_run(configured, model, sizes):
    """69,632 tokens: three hidden states, and a quarter of the MLP's gate, up and product."""
    rollout = configured().actor_rollout_ref.rollout
    layer = 69632 * (3 * 3584 + 3 * 18944 / 4) * 2
    assert generation.profile_bytes(rollout, model.widths, 152064) == layer
    estimated = sizes()
    assert estimated.profile == pytest.approx(layer / 2**30)
    assert estimated.kv_cache == pytest.approx(80 * 0.6 - estimated.rollout_weights - estimated.profile)


def test_few_batched_tokens_leave_the_sampled_logits(configured, model):
    rollout = configured(f"{ROLLOUT}.max_num_seqs=1024").actor_rollout_ref.rollout
    rollout.max_num_batched_tokens = 8192
    assert generation.profile_bytes(rollout, model.widths, 152064) == 8192 * 3584 * 2 + 1024 * 152064 * 16
    rollout.max_num_seqs = 16384  # At most one per batched token.
    assert generation.profile_bytes(rollout, model.widths, 152064) == 8192 * 3584 * 2 + 8192 * 152064 * 16


def test_other_engines_in_the_table_use_flash_attn(configured, model, monkeypatch, capsys):
    """A dry run chooses sdpa for the shared prompt's model, which says nothing about verl's engine."""
    monkeypatch.setenv("COLUMNS", "160")
    config = configured("longrl.engine=shared_prompt", f"+{ATTENTION}=sdpa")
    table.print_table(config, shapes.ModelShape(model.config, "a test"), (P,))
    row = next(line for line in capsys.readouterr().out.splitlines() if "(upstream)" in line)
    assert row.split("│")[2].strip() == "6.38"  # One copy of 22,528 tokens x 152,064 words in bfloat16.


def test_the_profile_run_leaves_less_for_the_cache(sizes):
    few, many = (sizes(f"{ROLLOUT}.max_num_batched_tokens={tokens}") for tokens in (8192, 69632))
    assert few.kv_tokens > many.kv_tokens


def test_verl_without_flash_attn_keeps_four_copies_of_its_logits(sizes):
    with_, without = (sizes("longrl.engine=upstream", *ONE, f"+{ATTENTION}={a}") for a in ("flash_attention_2", "sdpa"))
    assert without.logits == 4 * with_.logits
    ours = [sizes("longrl.engine=response_logits", *ONE, f"+{ATTENTION}={a}") for a in ("flash_attention_2", "sdpa")]
    assert ours[0].logits == ours[1].logits
