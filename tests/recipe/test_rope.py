"""RoPE scaling reaches whoever reads the model folder, and nothing else of the model changes."""

import json
from pathlib import Path

import pytest

from recipe.longrl.rope import RopeError, origin, with_rope

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 2048, "rope_theta": 1e6, "x": 1}))
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_config_says_it_and_weights_are_linked(model: Path, tmp_path: Path):
    scaled = with_rope(str(model), YARN, tmp_path / "scaled")
    config = json.loads((scaled / "config.json").read_text())
    assert config["max_position_embeddings"] == 8192
    assert config["rope_parameters"] == {**YARN, "rope_theta": 1e6}
    assert config["x"] == 1
    assert (scaled / "model.safetensors").read_bytes() == b"weights"
    assert with_rope(str(model), YARN, tmp_path / "scaled") == scaled
    assert json.loads((model / "config.json").read_text())["max_position_embeddings"] == 2048


def test_another_model_in_the_same_folder_brings_its_own_weights(model: Path, tmp_path: Path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"max_position_embeddings": 2048, "x": 2}))
    (other / "model-00001.safetensors").write_bytes(b"other weights")
    with_rope(str(model), YARN, tmp_path / "scaled")
    scaled = with_rope(str(other), YARN, tmp_path / "scaled")
    assert origin(str(scaled)) == str(other)
    assert json.loads((scaled / "config.json").read_text())["x"] == 2
    assert sorted(f.name for f in scaled.glob("*.safetensors")) == ["model-00001.safetensors"]
    assert (model / "model.safetensors").read_bytes() == b"weights"  # the links went, not what they pointed to


def test_a_folder_of_other_files_is_left_alone(model: Path, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(RopeError, match=r"holds files of another origin \(notes.txt\)"):
        with_rope(str(model), YARN, tmp_path / "mine")
    with pytest.raises(RopeError, match=r"the model is .* itself"):
        with_rope(str(model), YARN, model)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


def test_what_is_no_model_is_named(tmp_path: Path):
    with pytest.raises(RopeError, match=f"{tmp_path} has no config.json"):
        with_rope(str(tmp_path), YARN, tmp_path / "scaled")
    with pytest.raises(RopeError, match="hdfs://models/a is remote"):
        with_rope("hdfs://models/a", YARN, tmp_path / "scaled")


@pytest.mark.parametrize("weights", [True, False])
def test_a_dry_run_fetches_no_weights(model: Path, tmp_path: Path, monkeypatch, weights: bool):
    asked = []

    def fetch(name: str, allow_patterns: list[str] | None) -> str:
        asked.append((name, allow_patterns))
        return str(model)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    scaled = with_rope("org/model", YARN, tmp_path / "scaled", weights=weights)
    ((name, patterns),) = asked
    assert name == "org/model" == origin(str(scaled))
    assert (patterns is None) == weights
    assert not any("safetensors" in pattern or "bin" in pattern for pattern in patterns or [])


def test_a_hub_that_does_not_answer(tmp_path: Path, monkeypatch):
    def fetch(name: str, allow_patterns: list[str] | None) -> str:
        raise OSError("offline")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    with pytest.raises(RopeError, match="cannot fetch 'org/model': offline; give the model's folder"):
        with_rope("org/model", YARN, tmp_path / "scaled")


def test_the_text_part_of_a_multimodal_model_is_scaled(model: Path, tmp_path: Path):
    (model / "config.json").write_text(json.dumps({"text_config": {"max_position_embeddings": 2048}, "vision": 1}))
    config = json.loads((with_rope(str(model), YARN, tmp_path / "scaled") / "config.json").read_text())
    assert config["text_config"] == {"max_position_embeddings": 8192, "rope_parameters": YARN}
    assert config["vision"] == 1
