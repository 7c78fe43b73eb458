"""Settings that hardware=cpu leaves open, for real models of 100M to 500M parameters on a machine with 24 GiB."""

import asyncio
from collections import namedtuple
from types import SimpleNamespace

import psutil
import pytest
import torch
from omegaconf import OmegaConf
from transformers import LlamaConfig, Qwen2Config, Qwen3Config
from verl_longrl.config import LongRLConfig

from recipe.longrl import derived_settings, memory, settings, worker_env
from recipe.longrl.preflight import batch, memory_fit

pytestmark = pytest.mark.engine
BUDGET = "actor_rollout_ref.actor.ppo_max_token_len_per_gpu"
BUCKET = "actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes"
Usage = namedtuple("Usage", "total used free")


def shape(kind, vocabulary, hidden, layers, heads, kv_heads, mlp, positions, **more):
    return kind(
        **{"architectures": [kind.__name__.replace("Config", "ForCausalLM")], "tie_word_embeddings": True, **more},
        **{"vocab_size": vocabulary, "hidden_size": hidden, "num_hidden_layers": layers, "intermediate_size": mlp},
        **{"num_attention_heads": heads, "num_key_value_heads": kv_heads, "max_position_embeddings": positions},
    )


SHAPES = {
    "smollm2-135m": shape(LlamaConfig, 49152, 576, 30, 9, 3, 1536, 8192),
    "smollm2-360m": shape(LlamaConfig, 49152, 960, 32, 15, 5, 2560, 8192),
    "llama-160m": shape(LlamaConfig, 32000, 768, 12, 12, 12, 3072, 2048, tie_word_embeddings=False),
    "qwen2.5-0.5b": shape(Qwen2Config, 151936, 896, 24, 14, 2, 4864, 32768),
    "qwen3-100m": shape(Qwen3Config, 49152, 640, 14, 10, 2, 1792, 32768, head_dim=64),
    "qwen2.5-14b": shape(Qwen2Config, 152064, 5120, 48, 40, 8, 13824, 1010000, tie_word_embeddings=False),
}


@pytest.fixture
def machine(monkeypatch):
    """machine(gib, shm_mib): this machine has so much memory, and so much of it free in /dev/shm."""

    def has(gib: float, shm_mib: int = 12288) -> None:
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=gib * 2**30))
        monkeypatch.setattr(derived_settings.shutil, "disk_usage", lambda _: Usage(shm_mib << 20, 0, shm_mib << 20))

    has(24)
    return has


@pytest.fixture
def decided(composed, machine):
    """decided(shape, overrides) -> the complete configuration, and name -> line of what was chosen."""

    def make(name: str | None, *overrides: str, longest: int | None = 703):
        config = composed(*(overrides if any("hardware=" in o for o in overrides) else ("hardware=cpu", *overrides)))
        settings.resolve(config)
        known = None if name is None else SHAPES[name]
        chosen = [
            *derived_settings.derive_lengths(config, known, lambda _: longest),
            *derived_settings.derive_sizes(config, known),
        ]
        return config, {line.name: line for line in chosen}

    return make


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "qwen2.5-14b"])
def test_a_real_small_model_needs_no_override(decided, name: str):
    """The published batch, in lengths, tokens and buckets that this model, data and machine have room for."""
    config, chosen = decided(name)
    assert {line.status for line in chosen.values()} == {"ok"}, chosen
    assert (config.data.max_prompt_length, config.data.max_response_length) == (704, 512)
    assert config.actor_rollout_ref.rollout.max_model_len == 1216
    assert (config.data.train_batch_size, config.actor_rollout_ref.rollout.n) == (32, 8)
    assert [line.status for line in batch.check_batch(config)] == ["ok"]
    longrl = LongRLConfig.from_dict(settings.plain(config.longrl))
    found = {line.name: line for line in memory_fit.check_memory(config, longrl, SHAPES[name], dry_run=True)}
    assert {found["memory"].status, found["vLLM replica"].status} == {"ok"}, found


def test_what_was_fixed_before_is_refused_for_a_real_vocabulary(decided):
    """32,768 tokens and buckets of 16 MB, as the CPU group had them."""
    config, chosen = decided("smollm2-135m", f"{BUDGET}=32768", f"{BUCKET}=16")
    longrl = LongRLConfig.from_dict(settings.plain(config.longrl))
    found = {line.name: line for line in memory_fit.check_memory(config, longrl, SHAPES["smollm2-135m"], dry_run=True)}
    assert found["memory"].status == "FAIL"
    assert chosen["weight transfer"].status == "FAIL"
    assert f"{BUCKET} = 16: the largest tensor takes 108 MB. Fix: {BUCKET}=108" in chosen["weight transfer"].detail


def test_the_budget_is_the_largest_that_fits(decided):
    config, chosen = decided("smollm2-135m")
    model, budget = memory.ModelSizes.of(SHAPES["smollm2-135m"]), OmegaConf.select(config, BUDGET)
    room = derived_settings._room(config, model)
    assert derived_settings._peak(config, model) <= room
    OmegaConf.update(config, BUDGET, budget + 1)
    assert derived_settings._peak(config, model) > room
    assert config.actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu == budget + 1  # follows it
    assert f"{BUDGET} = {budget:,} (one longest sequence: 1,216)" in chosen["tokens at once"].detail


def test_less_memory_is_fewer_tokens_then_one_device_then_a_warning_with_the_fix(decided, machine):
    budget = OmegaConf.select(decided("smollm2-135m")[0], BUDGET)
    machine(20)
    config, _ = decided("smollm2-135m")
    assert config.trainer.n_gpus_per_node == 2
    assert 1216 <= OmegaConf.select(config, BUDGET) < budget
    machine(14)
    config, _ = decided("smollm2-135m")
    assert (config.trainer.n_gpus_per_node, config.ray_kwargs.ray_init.num_gpus) == (1, 1)
    machine(8)
    config, chosen = decided("smollm2-135m")
    assert OmegaConf.select(config, BUDGET) == 1216
    assert chosen["tokens at once"].status == "warn"
    assert "Fix: shorter prompts or responses, or actor_rollout_ref: " in chosen["tokens at once"].detail


def test_what_is_given_stays(decided):
    given = {
        "data.max_prompt_length": 900,
        "data.max_response_length": 100,
        "trainer.n_gpus_per_node": 1,
        "ray_kwargs.ray_init.runtime_env.env_vars.VLLM_CPU_KVCACHE_SPACE": 3,
        BUDGET: 2000,
        BUCKET: 200,
    }
    config, chosen = decided("smollm2-135m", *(f"{key}={value}" for key, value in given.items()))
    assert {key: int(OmegaConf.select(config, key)) for key in given} == given
    assert list(chosen) == ["weight transfer"]
    assert config.actor_rollout_ref.rollout.max_model_len == 1000


def test_lengths_within_the_models_positions(decided):
    config, chosen = decided("llama-160m", longest=1800)
    assert (config.data.max_prompt_length, config.data.max_response_length) == (1800, 248)
    assert "positions of the model: 2,048" in chosen["lengths"].detail
    config, _ = decided("llama-160m", longest=5000)  # which the data's own check refuses, row by row
    assert (config.data.max_prompt_length, config.data.max_response_length) == (1792, 256)
    config, chosen = decided("smollm2-135m", longest=None)
    assert (config.data.max_prompt_length, config.data.max_response_length) == (7680, 512)
    assert "the data cannot be read" in chosen["lengths"].detail
    config, _ = decided("smollm2-135m", "data.max_response_length=1000", longest=7500)
    assert (config.data.max_prompt_length, config.data.max_response_length) == (7192, 1000)


def test_nothing_to_choose_lengths_by(decided):
    with pytest.raises(settings.SettingsError, match="neither the model's positions nor the data can be read"):
        decided(None, longest=None)
    config, chosen = decided(None)  # a model that is fetched when the run starts
    assert (config.data.max_prompt_length, config.data.max_response_length) == (704, 512)
    assert OmegaConf.select(config, BUDGET) == derived_settings.MOST_TOKENS
    assert OmegaConf.select(config, BUCKET) == 2048
    assert chosen["weight transfer"].status == "warn"
    assert "largest tensor is unknown before the start" in chosen["weight transfer"].detail


def test_the_kv_cache_holds_a_longest_sequence(decided):
    """12 layers of 12 heads of 64 in float32 are 72 KiB a token: 32K tokens do not fit into one GiB."""
    longest = ["data.max_prompt_length=32000", "data.max_response_length=512"]
    config, chosen = decided("llama-160m", *longest)
    assert config.ray_kwargs.ray_init.runtime_env.env_vars.VLLM_CPU_KVCACHE_SPACE == "3"
    assert chosen["KV cache"].detail == "VLLM_CPU_KVCACHE_SPACE = 3 GiB, for one longest sequence"
    assert decided("llama-160m")[0].ray_kwargs.ray_init.runtime_env.env_vars.VLLM_CPU_KVCACHE_SPACE == "1"


@pytest.mark.parametrize(
    ("name", "overrides", "size", "says"),
    [
        ("qwen2.5-14b", ["hardware=8gpu"], 2970, "the largest tensor takes 2970"),
        ("smollm2-135m", ["hardware=8gpu"], 2048, "the largest tensor takes 108"),
        ("qwen2.5-14b", ["hardware=8gpu", "actor_rollout_ref.actor.fsdp_config.model_dtype=bf16"], 2048, "takes 1485"),
        ("qwen2.5-14b", ["hardware=8gpu", f"{BUCKET}=512"], 512, "2970 and is sent separately, by a handle to GPU"),
        (None, ["hardware=8gpu"], 2048, "unknown before the start"),
    ],
)
def test_buckets_on_gpus(decided, name, overrides, size: int, says: str):
    config, chosen = decided(name, *overrides)
    assert OmegaConf.select(config, BUCKET) == size
    assert says in chosen["weight transfer"].detail
    assert config.data.max_prompt_length == 65536  # published values stay
    assert list(chosen) == ["weight transfer"]


def test_the_bucket_is_what_upstreams_sender_needs(decided, monkeypatch):
    """Contract: the largest tensor goes through a bucket of this size, and not through one that is a MB smaller."""
    from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightSender

    config, _ = decided("smollm2-135m")
    size, sent = OmegaConf.select(config, BUCKET), []
    receiver = SimpleNamespace(send_pyobj=sent.append, recv=lambda: b"")
    for step in ("_init_socket", "_init_buffer", "_cleanup"):
        monkeypatch.setattr(BucketedWeightSender, step, lambda self: None)

    def send(mib: int) -> None:
        sender = BucketedWeightSender("ipc://nowhere", mib, use_shm=True)
        sender.socket, sender.buffer = receiver, torch.empty(mib << 20, dtype=torch.uint8)
        asyncio.run(sender.async_send_weights([("model.embed_tokens.weight", torch.zeros(49152, 576))]))

    send(size)
    assert sent[-1]["is_last"]
    with pytest.raises(AssertionError, match="too large to fit in the bucket"):
        send(size - 1)


def test_little_shared_memory_is_refused(decided, machine):
    machine(24, shm_mib=64)  # Docker's default
    _, chosen = decided("smollm2-135m")
    assert chosen["weight transfer"].status == "FAIL"
    assert "2 devices need 216 MB of /dev/shm, which has 64 free. Fix: docker run --shm-size" in (
        chosen["weight transfer"].detail
    )


def test_a_judges_devices_are_counted_when_the_trainers_are_known(decided):
    judge = ["longrl.reward.answer.by=reward_model", "reward.reward_model.model_path=j", "trainer.n_gpus_per_node=null"]
    config, _ = decided("smollm2-135m", *judge)
    assert config.ray_kwargs.ray_init.num_gpus == config.trainer.n_gpus_per_node + 1


def test_variables_are_text(composed):
    key = "ray_kwargs.ray_init.runtime_env.env_vars"
    given = [
        "NEW=2",
        "RATE=0.5",
        "FLAG=true",
        "OFF=False",
        "OMP_NUM_THREADS=4",
        "WORD=x",
        "TOKENIZERS_PARALLELISM=null",
    ]
    config = composed("hardware=cpu", *(f"{key}.{variable}" for variable in given))
    for variables in (worker_env.runtime_env(config)["env_vars"], _resolved(config)):
        found = {name: variables[name] for name in ("NEW", "RATE", "FLAG", "OFF", "OMP_NUM_THREADS", "WORD")}
        assert found == {"NEW": "2", "RATE": "0.5", "FLAG": "true", "OFF": "false", "OMP_NUM_THREADS": "4", "WORD": "x"}
        assert all(isinstance(value, str) for value in variables.values())
    assert "TOKENIZERS_PARALLELISM" not in _resolved(config)
    assert _resolved(composed(f"{key}.NEW=2"))["NEW"] == "2"  # also where the hardware group names none


def test_ray_accepts_the_variables(composed):
    from ray.runtime_env import RuntimeEnv

    config = composed("hardware=cpu", "ray_kwargs.ray_init.runtime_env.env_vars.NEW=2")
    settings.resolve(config)
    RuntimeEnv(env_vars=settings.plain(config.ray_kwargs.ray_init.runtime_env.env_vars))


@pytest.mark.parametrize("value", ["[1,2]", "{A: 1}"])
def test_a_variable_of_no_text_is_refused(composed, value: str):
    config = composed("hardware=cpu", f"ray_kwargs.ray_init.runtime_env.env_vars.NEW={value}")
    with pytest.raises(settings.SettingsError, match=r"env_vars.NEW = .*: expected text, a number, true or false"):
        settings.resolve(config)


def _resolved(config):
    settings.resolve(config)
    return settings.plain(config.ray_kwargs.ray_init.runtime_env.env_vars)
