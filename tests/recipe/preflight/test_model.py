"""The model's config is read as verl reads it; positions and heads that do not fit are named."""

import json
import re
import shutil
from pathlib import Path

import pytest

from recipe.longrl import settings
from recipe.longrl.preflight import model

pytestmark = pytest.mark.engine


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        ("context", "data.max_response_length=4096", r"= 5120 exceeds the 2048 positions.*rope.*F >= 2.50"),
        ("model", "actor_rollout_ref.model.path=/no/such/model", "cannot read the model config of '/no/such/model'"),
    ],
)
def test_a_problem_is_named(check, name: str, override: str, message: str):
    status, detail = check(override)[name]
    assert status == "FAIL"
    assert re.search(message, detail), detail


def test_rope_lengthens_the_context_of_both_engines(check):
    rope = "longrl.rope={rope_type: yarn, factor: 4.0, original_max_position_embeddings: 2048}"
    status, detail = check("data.max_response_length=4096", rope)["context"]
    assert status == "ok"
    assert "5120 of 8192 positions" in detail


@pytest.fixture
def shape(composed, tmp_path: Path):
    """shape(config.json, overrides) -> name -> (status, detail) of the checks of that model on 8 GPUs."""

    def run(written: dict, *overrides: str) -> dict[str, tuple[str, str]]:
        (tmp_path / "config.json").write_text(json.dumps(written))
        config = composed(f"actor_rollout_ref.model.path={tmp_path}", *overrides)
        settings.resolve(config)
        read, problems = model.read_model_config("model", config.actor_rollout_ref.model)
        found = problems if read is None else model.check_model(config, read)
        return {line.name: (line.status, line.detail) for line in found}

    return run


QWEN = {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "max_position_embeddings": 1010000,
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], None),
        (["actor.ulysses_sequence_parallel_size=8"], "actor.ulysses.* = 8: sequence parallelism needs a divisor of 28"),
        (
            ["rollout.tensor_model_parallel_size=8"],
            "rollout.tensor.* = 8: vLLM needs a divisor of 28 .* Fix: one of 1, 2, 4, 28",
        ),
        (["rollout.tensor_model_parallel_size=7"], "7: vLLM needs a divisor or a multiple of 4 key-value heads"),
    ],
)
def test_heads_divide_over_the_parallel_sizes(shape, overrides: list[str], message: str | None):
    status, detail = shape(QWEN, *(f"actor_rollout_ref.{override}" for override in overrides))["heads"]
    assert (status == "ok") == (message is None)
    assert message is None or re.search(message, detail), detail


def test_more_ranks_than_key_value_heads_repeat_them(shape):
    few = QWEN | {"num_attention_heads": 32, "num_key_value_heads": 2, "hidden_size": 4096}
    assert shape(few)["heads"][0] == "ok"


def test_a_model_that_verl_cannot_train(shape):
    """Contract: apply_monkey_patch reads num_key_value_heads of every model, GPT-2 has none."""
    status, detail = shape({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]})["heads"]
    assert status == "FAIL"
    assert "gpt2 config has no num_key_value_heads" in detail


def test_the_text_part_of_a_multimodal_model_counts(shape):
    nested = {
        "model_type": "qwen2_5_vl",
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "text_config": {**QWEN, "model_type": "qwen2_5_vl_text"},
    }
    found = shape(nested)
    assert found["context"] == ("ok", found["context"][1])
    assert "1010000 positions" in found["context"][1]
    assert found["heads"][0] == "ok"


def test_override_config_counts(shape):
    found = shape(QWEN, "+actor_rollout_ref.model.override_config.max_position_embeddings=1000")
    assert "exceeds the 1000 positions" in found["context"][1]


def test_code_of_the_model_is_run_on_demand_alone(shape, tmp_path: Path):
    (tmp_path / "own.py").write_text(
        "from transformers import Qwen2Config\nclass OwnConfig(Qwen2Config):\n    model_type = 'own'\n"
    )
    written = QWEN | {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    status, detail = shape(written)["model"]
    assert status == "FAIL"
    assert "trust_remote_code" in detail
    assert shape(written, "actor_rollout_ref.model.trust_remote_code=true")["heads"][0] == "ok"


def test_a_model_elsewhere_is_left_to_the_start(composed):
    config = composed("actor_rollout_ref.model.path='hdfs://models/qwen'")
    settings.resolve(config)
    read, (line,) = model.read_model_config("model", config.actor_rollout_ref.model)
    assert read is None
    assert (line.status, line.detail.split()[0]) == ("warn", "hdfs://models/qwen:")


def test_upstream_still_needs_key_value_heads():
    import inspect

    from verl.models.transformers.monkey_patch import apply_monkey_patch

    assert "model.config.num_key_value_heads" in inspect.getsource(apply_monkey_patch)


def test_folder_without_a_config(check, assets: Path, tmp_path: Path):
    shutil.copytree(assets / "model", tmp_path / "model", ignore=lambda *_: ["config.json"])
    assert check(f"actor_rollout_ref.model.path={tmp_path / 'model'}")["model"][0] == "FAIL"
