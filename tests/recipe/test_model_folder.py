"""A prepared folder has the edited config.json, and otherwise the model's own files."""

import json
from pathlib import Path

import pytest

from recipe.longrl.model_folder import ModelFolderError, find_links_elsewhere, original_model, prepare_model

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}


def scaled(model: str, target: Path, **more: bool) -> Path:
    return Path(prepare_model(model, target, length=4096, rope=YARN, **more))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 2048, "rope_theta": 1e6, "x": 1}))
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_config_says_it_and_weights_are_linked(model: Path, tmp_path: Path):
    folder = scaled(str(model), tmp_path / "scaled")
    config = json.loads((folder / "config.json").read_text())
    assert config["max_position_embeddings"] == 8192
    assert config["rope_parameters"] == {**YARN, "rope_theta": 1e6}
    assert config["x"] == 1
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert scaled(str(model), tmp_path / "scaled") == folder
    assert json.loads((model / "config.json").read_text())["max_position_embeddings"] == 2048


def test_another_model_in_the_same_folder_brings_its_own_weights(model: Path, tmp_path: Path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"max_position_embeddings": 2048, "x": 2}))
    (other / "model-00001.safetensors").write_bytes(b"other weights")
    scaled(str(model), tmp_path / "scaled")
    folder = scaled(str(other), tmp_path / "scaled")
    assert original_model(str(folder)) == str(other)
    assert json.loads((folder / "config.json").read_text())["x"] == 2
    assert sorted(f.name for f in folder.glob("*.safetensors")) == ["model-00001.safetensors"]
    assert (model / "model.safetensors").read_bytes() == b"weights"  # the links went, not what they pointed to


def test_a_folder_of_other_files_is_left_alone(model: Path, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(ModelFolderError, match=r"contains other files \(notes.txt\)"):
        scaled(str(model), tmp_path / "mine")
    with pytest.raises(ModelFolderError, match=r"the model is .* itself"):
        scaled(str(model), model)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


def test_what_is_no_model_is_named(tmp_path: Path):
    with pytest.raises(ModelFolderError, match=f"{tmp_path} has no config.json"):
        scaled(str(tmp_path), tmp_path / "scaled")
    with pytest.raises(ModelFolderError, match="hdfs://models/a is remote"):
        scaled("hdfs://models/a", tmp_path / "scaled")


@pytest.mark.parametrize("weights", [True, False])
def test_a_dry_run_fetches_no_weights(model: Path, tmp_path: Path, monkeypatch, weights: bool):
    asked = []

    def fetch(name: str, allow_patterns: list[str] | None, local_files_only: bool) -> str:
        asked.append((name, allow_patterns))
        return str(model)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    folder = scaled("org/model", tmp_path / "scaled", weights=weights)
    ((name, patterns),) = asked
    assert name == "org/model" == original_model(str(folder))
    assert (patterns is None) == weights
    assert not any("safetensors" in pattern or "bin" in pattern for pattern in patterns or [])


def test_a_hub_that_does_not_answer(tmp_path: Path, monkeypatch):
    def fetch(name: str, allow_patterns: list[str] | None, local_files_only: bool) -> str:
        raise OSError("offline")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    with pytest.raises(ModelFolderError, match=r"cannot fetch 'org/model': offline\. Fix: give the model's folder"):
        scaled("org/model", tmp_path / "scaled")


def test_the_text_part_of_a_multimodal_model_is_scaled(model: Path, tmp_path: Path):
    (model / "config.json").write_text(json.dumps({"text_config": {"max_position_embeddings": 2048}, "vision": 1}))
    config = json.loads((scaled(str(model), tmp_path / "scaled") / "config.json").read_text())
    assert config["text_config"] == {"max_position_embeddings": 8192, "rope_parameters": YARN}
    assert config["vision"] == 1


CHUNKED = {"chunk_size": 262144, "local_size": 8192, "original_max_position_embeddings": 262144}


@pytest.fixture
def chunked(model: Path) -> Path:
    """A folder like the published Qwen2.5-1M models': dual chunk attention, and the sparse attention's own file."""
    config = {"model_type": "qwen2", "max_position_embeddings": 1010000, "dual_chunk_attention_config": CHUNKED}
    (model / "config.json").write_text(json.dumps(config))
    (model / "sparse_attention_config.json").write_text("{}")
    return model


def test_a_model_that_needs_no_change_is_run_as_it_is(model: Path, tmp_path: Path):
    assert prepare_model(str(model), tmp_path / "prepared", length=4096) == str(model)
    assert prepare_model("hdfs://models/a", tmp_path / "prepared", length=4096) == "hdfs://models/a"
    assert not (tmp_path / "prepared").exists()


@pytest.mark.parametrize("length", [4096, 262144])
def test_dual_chunk_attention_is_left_out_where_it_is_plain_attention(chunked: Path, tmp_path: Path, length: int):
    folder = Path(prepare_model(str(chunked), tmp_path / "prepared", length=length))
    assert folder == tmp_path / "prepared"
    assert json.loads((folder / "config.json").read_text()) == {
        "model_type": "qwen2",
        "max_position_embeddings": 1010000,
    }
    assert {f.name for f in folder.iterdir()} == {"config.json", "longrl_origin.json", "model.safetensors"}
    assert original_model(str(folder)) == str(chunked)
    assert "dual_chunk_attention_config" in (chunked / "config.json").read_text()  # the user's is left alone


def test_dual_chunk_attention_in_the_text_part(chunked: Path, tmp_path: Path):
    nested = {"text_config": {"dual_chunk_attention_config": CHUNKED, "vocab_size": 8}, "vision_config": {}}
    (chunked / "config.json").write_text(json.dumps(nested))
    folder = Path(prepare_model(str(chunked), tmp_path / "prepared", length=4096))
    assert json.loads((folder / "config.json").read_text()) == {"text_config": {"vocab_size": 8}, "vision_config": {}}


@pytest.mark.parametrize(
    ("settings", "length", "message"),
    [
        (CHUNKED, 262145, r"only up to 262144 tokens.* up to 262145.*within 262144"),
        ({**CHUNKED, "chunk_size": 32768}, 69632, r"only up to 32768 tokens.*up to 69632"),
        ({**CHUNKED, "original_max_position_embeddings": 32768}, 69632, r"only up to 32768 tokens"),
        ({"local_size": 8192}, 4096, r"dual_chunk_attention_config = .* has no chunk_size"),
    ],
)
@pytest.mark.parametrize("rope", [None, YARN])
def test_beyond_the_chunk_the_model_is_refused(chunked: Path, tmp_path: Path, settings, length, message, rope):
    config = json.loads((chunked / "config.json").read_text())
    (chunked / "config.json").write_text(json.dumps({**config, "dual_chunk_attention_config": settings}))
    with pytest.raises(ModelFolderError, match=message):
        prepare_model(str(chunked), tmp_path / "prepared", length=length, rope=rope)
    assert not (tmp_path / "prepared").exists()


def test_rope_and_dual_chunk_attention_together(chunked: Path, tmp_path: Path):
    folder = scaled(str(chunked), tmp_path / "prepared")
    config = json.loads((folder / "config.json").read_text())
    assert config == {"model_type": "qwen2", "max_position_embeddings": 8192, "rope_parameters": YARN}
    assert not (folder / "sparse_attention_config.json").exists()


@pytest.fixture
def cached(chunked: Path, tmp_path: Path, monkeypatch) -> Path:
    """The hub's cache, which holds org/model without its weights, and no network."""
    snapshot = tmp_path / "hub" / "models--org--model" / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text((chunked / "config.json").read_text())
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text(snapshot.name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return snapshot


def test_a_hub_model_is_fetched_only_when_its_config_changes(cached: Path, chunked: Path, tmp_path: Path, monkeypatch):
    asked = []

    def fetch(name: str, allow_patterns: list[str] | None, local_files_only: bool) -> str:
        asked.append(allow_patterns)
        return str(chunked)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    with pytest.raises(ModelFolderError, match="org/model sets dual chunk attention"):
        prepare_model("org/model", tmp_path / "prepared", length=300000)
    assert asked == []
    assert prepare_model("org/model", tmp_path / "prepared", length=4096) == str(tmp_path / "prepared")
    assert asked == [None]
    (cached / "config.json").write_text('{"model_type": "qwen2"}')
    assert prepare_model("org/model", tmp_path / "prepared", length=300000) == "org/model"
    assert prepare_model("org/unknown", tmp_path / "prepared", length=300000) == "org/unknown"
    assert asked == [None]


def test_links_to_another_file_system_are_seen(chunked: Path, tmp_path: Path, monkeypatch):
    folder = prepare_model(str(chunked), tmp_path / "prepared", length=4096)
    assert find_links_elsewhere(folder) is None
    assert find_links_elsewhere(str(chunked)) is None
    (chunked / "model.safetensors").unlink()
    elsewhere = Path("/dev/shm")  # always a file system of its own
    weights = elsewhere / f"longrl-{tmp_path.name}.safetensors"
    weights.write_bytes(b"weights")
    try:
        (chunked / "model.safetensors").symlink_to(weights)
        assert find_links_elsewhere(prepare_model(str(chunked), tmp_path / "prepared", length=4096)) == str(elsewhere)
    finally:
        weights.unlink()
