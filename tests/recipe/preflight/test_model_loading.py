"""What transformers or vLLM would refuse minutes into a start is refused by the preflight, in their words."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from recipe.longrl import settings
from recipe.longrl.preflight import model, model_loading

pytestmark = pytest.mark.engine
ASK = model_loading.vllm_arguments  # the fixture in conftest.py replaces the module's

QWEN = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "hidden_size": 256,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 512,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True}
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
DUAL_CHUNK = {"chunk_size": 262144, "local_size": 8192, "original_max_position_embeddings": 262144}
QWEN2 = {**QWEN, "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
ROPE = {"factor": 2.0, "original_max_position_embeddings": 65536}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
MODELS = {
    "good": QWEN,
    "experts": QWEN | EXPERTS | {"model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"]},
    "yarn": QWEN | {"rope_scaling": {"rope_type": "yarn", **ROPE}},
    "unknown architecture": QWEN | {"architectures": ["NoSuchForCausalLM"]},
    "unknown rope": QWEN | {"rope_scaling": {"rope_type": "spiral", **ROPE}},
    "gptq": QWEN | {"quantization_config": GPTQ},
    "fp8": QWEN | {"quantization_config": FP8},
    "short": QWEN | {"max_position_embeddings": 2048},
    "dual chunk": QWEN2 | {"dual_chunk_attention_config": DUAL_CHUNK},
}
VLLM_REFUSES = {
    "unknown architecture": "NoSuchForCausalLM.* not supported",
    "unknown rope": "Unknown RoPE scaling type spiral",
    "short": "69632.* greater than the derived max_model_len .*2048",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name of a model -> its folder, which holds config.json alone."""
    found = {}
    for name, config in MODELS.items():
        found[name] = tmp_path_factory.mktemp("model")
        (found[name] / "config.json").write_text(json.dumps(config))
    return found


def configured(composed, folder: Path, *overrides: str):
    config = composed(f"actor_rollout_ref.model.path={folder}", f"longrl.output_dir={folder / 'run'}", *overrides)
    settings.resolve(config, partial=True)  # as if the key came from elsewhere
    return config


@pytest.fixture(scope="module")
def answers(folders: dict[str, Path], composed) -> dict[str, model_loading.VllmReport]:
    """Name of a model -> what the installed vLLM says. One process: its imports take longest."""
    asked = [ASK(configured(composed, folder)) for folder in folders.values()]
    command = [sys.executable, "-m", "recipe.longrl.vllm_probe", *map(str, asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    return {name: json.loads(line) for name, line in zip(folders, done.stdout.splitlines()[-len(asked) :], strict=True)}


@pytest.fixture
def rollout(folders, answers, composed, monkeypatch):
    """rollout(name of a model) -> the line about the rollout engine."""

    def line(name: str):
        config = configured(composed, folders[name])
        monkeypatch.setattr(model_loading, "vllm_arguments", ASK)
        monkeypatch.setattr(model_loading, "_reports", {ASK(config): answers[name]})
        with model_loading.VllmProbe(config) as asked:
            return model_loading.check_rollout_engine(config, asked)

    return line


@pytest.fixture
def trainer(folders, composed):
    """trainer(name of a model, overrides) -> the line about the trainer's model."""

    def line(name: str, *overrides: str):
        config = configured(composed, folders[name], *overrides)
        shape, problems = model.read_model_config("model", config.actor_rollout_ref.model)
        assert not problems
        (found,) = model_loading.check_trainer_model(config, shape)
        return found

    return line


@pytest.mark.parametrize("name", ["good", "experts", "yarn"])
def test_what_both_can_load(rollout, trainer, name: str):
    assert rollout(name).status == "ok", rollout(name)
    assert trainer(name).status == "ok", trainer(name)


@pytest.mark.parametrize(("name", "words"), VLLM_REFUSES.items())
def test_what_vllm_refuses_is_said_in_its_words(rollout, name: str, words: str):
    import re

    found = rollout(name)
    assert found.status == "FAIL"
    assert re.search(words, found.detail), found.detail
    assert "Fix: " in found.detail
    assert "\n" not in found.detail
    assert len(found.detail) < 700


@pytest.mark.parametrize(("name", "method"), [("gptq", "gptq"), ("fp8", "fp8")])
def test_a_quantised_checkpoint_cannot_be_trained(rollout, trainer, name: str, method: str):
    found = trainer(name)
    assert found.status == "FAIL"
    assert f"the checkpoint is quantized ({method}), and quantized weights cannot be trained" in found.detail
    assert rollout(name).status == "FAIL"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("unknown rope", "rope_type = 'spiral': unknown to transformers"),
        ("dual chunk", "the config has dual_chunk_attention_config, but the trainer computes plain causal"),
    ],
)
def test_what_the_trainer_cannot_compute(trainer, name: str, words: str):
    found = trainer(name)
    assert found.status == "FAIL"
    assert words in found.detail, found.detail


def test_vllm_still_cannot_load_dual_chunk_attention(answers):
    """Contract: when it can, `model_folder` need not leave the key out for vLLM's sake."""
    assert answers["dual chunk"]["error"] is not None


def test_a_config_that_transformers_cannot_build(trainer):
    found = trainer("good", "+actor_rollout_ref.model.override_config.hidden_act=no_such")
    assert found.status == "FAIL"
    assert "cannot build the model of this config: " in found.detail


def test_vllm_is_not_asked_of_what_it_will_not_load(composed, tmp_path: Path):
    assert ASK(configured(composed, tmp_path)) is None  # no config.json
    (tmp_path / "config.json").write_text(json.dumps(QWEN))
    assert ASK(configured(composed, tmp_path)) is not None
    assert ASK(configured(composed, tmp_path, "actor_rollout_ref.rollout.name=sglang")) is None


def test_the_process_ends_with_the_checks(folders, composed, monkeypatch):
    monkeypatch.setattr(model_loading, "vllm_arguments", ASK)
    monkeypatch.setattr(model_loading, "TIMEOUT_S", 0.01)
    config = configured(composed, folders["good"])
    with model_loading.VllmProbe(config) as asked:
        found = model_loading.check_rollout_engine(config, asked)
    assert (found.status, "vLLM did not respond within" in found.detail) == ("warn", True)
    assert asked.process.poll() is not None


class Asked:
    """Stands for the Python that imports vLLM for seconds: counts its starts and gives a prepared answer."""

    def __init__(self, folder: Path) -> None:
        self.python, self.starts, self.answer = folder / "python", folder / "starts", folder / "answer"
        self.python.write_text(f'#!/bin/sh\necho started >> "{self.starts}"\ncat "{self.answer}"\n')
        self.python.chmod(0o700)

    def status(self, config, report: dict) -> tuple[str, int]:
        """What a start of a run reports, and how often vLLM has been asked in all."""
        self.answer.write_text(json.dumps({"vllm": "0.9", "platform": "cpu"} | report))
        model_loading._reports.clear()  # another start is another process
        with model_loading.VllmProbe(config, str(self.python)) as asked:
            status = model_loading.check_rollout_engine(config, asked).status
        return status, self.starts.read_text().count("started") if self.starts.exists() else 0


@pytest.fixture
def asked(tmp_path, monkeypatch) -> Asked:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(model_loading, "vllm_arguments", ASK)
    monkeypatch.setattr(model_loading, "_reports", {})
    return Asked(tmp_path)


GOOD, BAD = (
    {"error": None, "quantization": None},
    {"error": {"type": "ValueError", "message": "no"}, "quantization": None},
)


def test_a_success_is_remembered_until_something_changes(asked, folders, composed, monkeypatch, tmp_path):
    config = configured(composed, folders["good"])
    assert asked.status(config, GOOD) == ("ok", 1)
    assert asked.status(config, BAD) == ("ok", 1)
    # The same model elsewhere.
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "config.json").write_text(json.dumps(QWEN))
    assert asked.status(configured(composed, tmp_path / "copy"), BAD) == ("ok", 1)
    assert asked.status(configured(composed, folders["yarn"]), GOOD) == ("ok", 2)
    assert asked.status(configured(composed, folders["good"], "data.max_response_length=100"), BAD) == ("FAIL", 3)
    assert asked.status(configured(composed, folders["good"], "data.max_response_length=100"), GOOD) == ("ok", 4)
    monkeypatch.setenv("VLLM_USE_SOMETHING", "1")
    assert asked.status(config, GOOD) == ("ok", 5)
    trusted = configured(composed, folders["good"], "actor_rollout_ref.model.trust_remote_code=true")
    assert [asked.status(trusted, GOOD)[1] for _ in range(2)] == [6, 7]


@pytest.mark.parametrize("content", ["", "[1]", '{"error": null}', '{"vllm": "1", "platform": "cpu", "error": "x"}'])
def test_a_damaged_memory_is_asked_again(asked, folders, composed, tmp_path, content):
    config = configured(composed, folders["good"])
    asked.status(config, GOOD)
    (file,) = (tmp_path / "cache/longrl/vllm_probe").iterdir()
    file.write_text(content)
    assert asked.status(config, BAD) == ("FAIL", 2)


def test_a_cache_that_cannot_be_written_is_no_problem(asked, folders, composed, tmp_path):
    (tmp_path / "cache").write_text("a file")
    assert asked.status(configured(composed, folders["good"]), GOOD) == ("ok", 1)
