"""The memory calculator: its counts compared with autograd's, its rules, its command line."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config, Qwen3MoeConfig
from typer.testing import CliRunner

from recipe.longrl import memory, settings
from recipe.longrl.memory import lengths, logits, shapes, table
from recipe.longrl.memory.layers import LayerWidths

pytestmark = pytest.mark.engine
TINY = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 50}
MODELS = {
    "llama": LlamaConfig(**TINY, intermediate_size=160),
    "qwen2": Qwen2Config(**{k: v for k, v in TINY.items() if k != "head_dim"}, intermediate_size=96),
    "qwen3": Qwen3Config(**{**TINY, "head_dim": 32}, intermediate_size=160),
    "qwen3_moe": Qwen3MoeConfig(**TINY, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=32),
}


def count_saved_bytes(config, layers: int, dtype: torch.dtype, tokens: int) -> int:
    """Bytes that autograd saves in a forward pass, without the parameters."""
    config = copy.deepcopy(config)
    config.num_hidden_layers = layers
    model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    parameter_storages = {p.untyped_storage().data_ptr() for p in model.parameters()}
    # Saved tensors stay alive, so that no two have the same address.
    saved_bytes, alive = {}, []

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameter_storages:
            saved_bytes[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(torch.zeros(1, tokens, dtype=torch.long), use_cache=False)
    return sum(saved_bytes.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", MODELS)
def test_a_layer_keeps_what_autograd_saves(name: str, dtype: torch.dtype):
    config, tokens = MODELS[name], 256
    layer = (count_saved_bytes(config, 3, dtype, tokens) - count_saved_bytes(config, 1, dtype, tokens)) / 2 / tokens
    counted = memory.ModelSizes.of(config).widths.kept(dtype.itemsize)
    tolerance = 0.12 if name == "qwen3_moe" else 0.01  # Its router is not counted.
    assert counted == pytest.approx(layer, rel=tolerance)


def test_bytes_kept_by_a_layer():
    """Qwen2.5-7B in bfloat16: norms 2 x 3584 x 8, attention 4 x (3584 + 512) and 28 log-sum-exps, MLP 8 x 18944."""
    text = AutoConfig.for_model(**json.loads(shapes.TABLE.read_text())["Qwen/Qwen2.5-7B-Instruct-1M"])
    assert LayerWidths.of(text, qk_norm=False).kept(2) == 57344 + 16384 + 112 + 151552


@pytest.fixture
def published_7b(composed):
    """published_7b(overrides) -> configuration and model of a published 7B run."""
    model = memory.ModelSizes.of(shapes.read_shape(composed("model=qwen2.5-7b-1m").actor_rollout_ref.model).config)

    def make(*overrides: str) -> tuple[DictConfig, memory.ModelSizes]:
        config = composed("model=qwen2.5-7b-1m", *overrides)
        settings.resolve(config)
        return config, model

    return make


def sizes(config: DictConfig, model: memory.ModelSizes) -> memory.Sizes:
    return memory.estimate(config, model, gpu_gib=80, n_gpus=8)


@pytest.mark.parametrize(
    ("engine", "share", "expected"),
    [
        ("upstream", 1.0, 22528),
        ("shared_prompt", 1.0, (90112 - 65536) / 4),  # A group is split: one prompt, and responses in the rest.
        ("shared_prompt", 0.25, 90112 * 32768 / (16384 + 32768) / 4),
        ("shared_prompt", 0.0, 22528),
        ("response_logits", 1.0, 4096),
        ("response_logits", 0.25, 4096 + 2048),  # 20,480 tokens of one row, 2,048 of the next.
        ("response_logits", 0.0, 22528),
    ],
)
def test_tokens_with_logits(published_7b, engine: str, share: float, expected: float):
    config, _ = published_7b()
    assert logits.logit_tokens(config, engine, 22528, 8, share) == pytest.approx(expected)


def test_no_more_logits_than_the_batch_has_responses(published_7b):
    config, _ = published_7b("actor_rollout_ref.rollout.n=2", "data.max_response_length=1024")
    assert logits.logit_tokens(config, "shared_prompt", 22528, 4, 0.0) == 4 * 2 * 1024 / 2 / 4  # 2 ranks of 4 GPUs.


def test_auto_is_estimated_as_the_engine_it_will_be(published_7b):
    config, model = published_7b()
    assert config.longrl.engine == "auto"
    assert sizes(config, model).engine == "shared_prompt"
    shuffled, _ = published_7b("actor_rollout_ref.actor.shuffle=true")
    assert sizes(shuffled, model).engine == "response_logits"


def test_logits_by_engine(published_7b):
    by_engine = {engine: sizes(*published_7b(f"longrl.engine={engine}")) for engine in ("shared_prompt", "upstream")}
    assert by_engine["shared_prompt"].logits == by_engine["upstream"].logits / 2
    assert by_engine["shared_prompt"].log_prob_peak < by_engine["upstream"].log_prob_peak


def test_checkpointing_keeps_a_hidden_state_for_each_layer(published_7b):
    on, off = (
        sizes(*published_7b(f"actor_rollout_ref.model.enable_gradient_checkpointing={value}"))
        for value in (True, False)
    )
    assert off.kept > 30 * on.kept
    assert off.update_peak > on.update_peak
    assert off.logits == on.logits


def test_the_peak_has_logits_or_a_layers_backward_but_not_both(published_7b):
    config, model = published_7b("longrl.engine=upstream")
    result = sizes(config, model)
    temporary = result.update_peak - result.train_state - result.kept - result.sleeping
    at_logits = (result.tokens * model.widths.last_norm(2) + 152064 * 3584 * 2) / 2**30 + result.logits
    assert temporary == pytest.approx(max(result.gathered + result.working, at_logits))
    assert temporary < result.gathered + result.working + result.logits


def test_on_the_cpu_the_process_and_holes_in_the_heap_count(composed):
    lengths_ = ("data.max_prompt_length=700", "data.max_response_length=400", "trainer.n_gpus_per_node=1")
    config = composed("hardware=cpu", *lengths_, "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=4096")
    result = sizes(config, memory.ModelSizes.of(MODELS["llama"]))
    assert result.holes == pytest.approx(0.25 * result.kept)
    later = result.gathered + result.working
    assert result.update_peak == pytest.approx(result.train_state + 1.25 * result.kept + later + result.process)
    assert result.process > 0.5


@pytest.mark.parametrize("engine", ["shared_prompt", "response_logits", "upstream"])
def test_longer_prompts_take_more(published_7b, engine: str):
    config, model = published_7b(f"longrl.engine={engine}")
    columns = lengths.estimate_lengths(config, model, 1000, (4096, 16384, 65536, 262144))
    assert [column.prompt for column in columns] == [65536, 4096, 16384, 65536, 262144]
    for name in ("tokens", "kept", "working", "update_peak", "log_prob_peak"):
        values = [getattr(column.sizes, name) for column in columns[1:]]
        assert values == sorted(values), name
        assert values[0] < values[-1], name


def test_a_micro_batch_holds_a_group_or_one_row(published_7b):
    config, model = published_7b()
    assert lengths.estimate_length(config, model, 80, 16384).sizes.tokens == (16384 + 8 * 4096) // 4
    assert lengths.estimate_length(config, model, 27, 16384).sizes.tokens == (16384 + 4096) // 4  # No room for a group.
    one_by_one, _ = published_7b("longrl.engine=response_logits")
    assert lengths.estimate_length(one_by_one, model, 80, 16384).sizes.tokens == (16384 + 4096) // 4


def test_summary(published_7b):
    config, model = published_7b()
    prompts = (16384, 1048576)
    fits = list(table.summarize_fit(lengths.estimate_lengths(config, model, 80, prompts), model.config))
    assert fits[0] == "longest prompts that fit: 64K"
    assert "exact up to 262,144 tokens: 1024K plus responses is rejected" in fits[1]
    del model.config.dual_chunk_attention_config
    needs = list(table.summarize_fit(lengths.estimate_lengths(config, model, 80, prompts), model.config))
    assert "1024K plus responses needs longrl.rope" in needs[1]
    none = list(table.summarize_fit(lengths.estimate_lengths(config, model, 16, prompts), model.config))
    assert none[0].startswith("none of these lengths fits. Fixes for 16K")
    assert "use more GPUs" in " ".join(none)


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def command(monkeypatch, offline):
    """command(arguments) -> the result of the command line in a wide terminal."""
    import typer

    from recipe.longrl.memory.__main__ import main

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("COLUMNS", "160")
    app = typer.Typer()
    app.command()(main)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def read_row(output: str, name: str) -> list[float]:
    line = next(line for line in output.splitlines() if name in line)
    return [float(figure.replace(",", "")) for figure in re.findall(r"│\s+([\d,.]+)", line)]


def test_table_of_a_published_shape(command):
    done = command("model=qwen2.5-7b-1m", "--lengths", "16K,100000")
    assert done.exit_code == 0, done.output
    assert "7.62B parameters (Qwen/Qwen2.5-7B-Instruct-1M, published figures" in done.output
    assert "engine shared_prompt, 8 responses of 4,096 tokens" in done.output
    assert read_row(done.output, "update: tokens per micro-batch") == [22528, 12288, (100000 + 8 * 4096) / 4]
    assert read_row(done.output, "weights") == [3.55] * 3
    without, with_ = (read_row(done.output, f"activations {word} checkpointing") for word in ("without", "with"))
    assert all(many > 30 * few for many, few in zip(without, with_, strict=True))
    assert read_row(done.output, "(upstream)")[0] == pytest.approx(6.38)
    assert "longest prompts that fit: 100,000" in done.output


def test_phases_that_do_not_fit_are_marked(command):
    done = command("model=qwen2.5-7b-1m", "hardware=1gpu", "--lengths", "16K")
    assert re.search(r"peak +│ +[\d.]+ !!", done.output)
    assert "none of these lengths fits" in done.output
    assert "actor.fsdp_config.offload_policy=true" in done.output


@pytest.mark.parametrize("file", [False, True], ids=["folder", "JSON file"])
def test_a_local_model(command, tmp_path: Path, file: bool):
    MODELS["qwen3"].save_pretrained(tmp_path)
    path = tmp_path / "config.json" if file else tmp_path
    done = command(f"actor_rollout_ref.model.path={path}", "hardware=cpu")
    assert done.exit_code == 0, done.output
    assert f"({path})" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["actor_rollout_ref.model.path=nobody/nothing"],
            "actor_rollout_ref.model.path = 'nobody/nothing': cannot read the model's shape",
        ),
        (["model=nope"], "model=nope is unknown; the nearest is model="),
        (["hardware=8gpu"], "actor_rollout_ref.model.path must be given"),
        (["model=qwen2.5-7b-1m", "--lengths", "64k,many"], "--lengths = 'many': expected numbers of tokens"),
    ],
)
def test_mistakes_are_explained(command, arguments: list[str], message: str):
    done = command(*arguments)
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output


def test_megatron_is_not_estimated(command):
    done = command("model=qwen3-4b", "hardware=128gpu-megatron")
    assert done.exit_code == 0
    assert "not estimated with Megatron" in done.output


def test_every_published_model_is_in_the_table(composed, offline):
    groups = Path(settings.__file__).parent / "config" / "model"
    for file in sorted(groups.glob("*.yaml")):
        path = composed(f"model={file.stem}", given=False).actor_rollout_ref.model.path
        if path is not None and not path.startswith(("outputs/", "pypi:")):
            assert (
                "published figures" in shapes.read_shape(composed(f"model={file.stem}").actor_rollout_ref.model).source
            )


@pytest.mark.parametrize(
    ("model", "billions"),
    [
        ("qwen2.5-7b-1m", 7.62),
        ("qwen2.5-14b-1m", 14.77),
        ("qwen2.5-7b", 7.62),
        ("qwen2.5-14b", 14.77),
        ("llama-3.1-8b", 8.03),
        ("qwen3-4b", 4.02),
        ("qwen3-30b-a3b", 30.53),
    ],
)
def test_published_parameters(composed, offline, model: str, billions: float):
    shape = shapes.read_shape(composed(f"model={model}").actor_rollout_ref.model)
    assert memory.ModelSizes.of(shape.config).parameters / 1e9 == pytest.approx(billions, abs=0.01)


def test_help():
    command = [sys.executable, "-m", "recipe.longrl.memory", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "--lengths" in done.stdout
    assert "peak memory of each phase" in done.stdout
