"""RoPE scaling reaches whoever reads the model folder, and nothing else of the model changes."""

import json
from pathlib import Path

import pytest

from recipe.longrl.rope import with_rope

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
