"""Input files are compared with the driver's, and the folders that the run writes must be the same on all nodes."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from recipe.longrl.preflight.nodes import input_files, shared_folders

pytestmark = pytest.mark.engine
KEY = "actor_rollout_ref.model.path"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a small and a large file."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(3 * 2**20))
    return folder


@pytest.fixture
def compare(composed, probe_input):
    """compare(model, the driver's digest of it) -> (status, detail) of the one line."""

    def run(path, expected) -> tuple[str, str]:
        given = probe_input(composed(f"{KEY}={path}"), files={KEY: expected})
        (line,) = input_files.check_input_files(given)
        return line.status, line.detail

    return run


def digest(composed, model: Path):
    return input_files.digest_all(composed(f"{KEY}={model}"))[KEY]


def test_files_that_differ_or_are_missing_are_named(compare, composed, model: Path):
    expected = digest(composed, model)
    assert compare(model, expected) == ("ok", "model, data and scorers are the same as the driver's")
    with (model / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    status, detail = compare(model, expected)
    assert status == "FAIL"
    assert f"{KEY} = {model}: differs from the driver's (model.safetensors: 3145728 bytes, " in detail
    assert f"expected {expected['model.safetensors']}). Fix: put it on a file system that every node mounts" in detail
    (model / "config.json").unlink()
    assert "config.json: no such file, expected" in compare(model, expected)[1]
    status, detail = compare(model / "elsewhere", expected)
    assert status == "FAIL"
    assert f"{KEY} = {model / 'elsewhere'}: missing or not readable here" in detail


def test_a_model_of_the_hub_that_is_not_in_the_cache(compare, monkeypatch, tmp_path: Path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    status, detail = compare("some/model", "commit 1")
    assert (status, detail) == ("warn", f"{KEY} = some/model: not in the cache; downloaded when the run starts")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    status, detail = compare("some/model", "commit 1")
    assert status == "FAIL"
    assert "not in the cache, and HF_HUB_OFFLINE=1. Fix: set HF_HOME to a shared folder" in detail


def test_input_files_of_a_run(composed):
    config = composed("longrl.reward.scorers=[/mine.py, a.module]", "data.train_files=[/a.parquet, 's3://b/c.parquet']")
    files = input_files.list_input_files(config)
    assert files["data.train_files[0]"] == "/a.parquet"
    assert "data.train_files[1]" not in files  # every node downloads it when the run starts
    assert files["longrl.reward.scorers[0]"] == "/mine.py"


@pytest.fixture
def run_folders(tmp_path: Path):
    """A configuration whose run writes to a folder that does not exist yet."""
    folders = {"longrl": {"output_dir": str(tmp_path / "run")}}
    return OmegaConf.create(folders | {"trainer": {"default_local_dir": str(tmp_path / "run" / "checkpoints")}})


def test_a_shared_folder_is_left_clean(run_folders, probe_input, tmp_path: Path):
    with shared_folders.driver_files(run_folders) as folders:
        assert list(folders) == [str(tmp_path)]
        assert list(shared_folders.check_driver_files(probe_input(None, folders=folders))) == []
        assert [line.status for line in shared_folders.check_files_of_node(folders, "node-id")] == ["ok"]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_shared(run_folders, probe_input, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(shared_folders, "VISIBLE_TIMEOUT_S", 0.1)
    with shared_folders.driver_files(run_folders) as folders:
        (tmp_path / next(iter(folders.values()))).unlink()  # as on a node with a disk of its own
        (line,) = shared_folders.check_driver_files(probe_input(None, folders=folders))
        assert line.status == "FAIL"
        assert (
            f"{tmp_path} is not shared with the driver: the driver's file is not there. Fix: put longrl" in line.detail
        )
        (line,) = shared_folders.check_files_of_node(folders, "node-id")
        assert line.status == "FAIL"
        assert f"the driver does not see files written to {tmp_path} here" in line.detail


def test_a_folder_that_cannot_be_written(probe_input, tmp_path: Path):
    (tmp_path / "mark").write_text("")
    (tmp_path / "mark-node-id").mkdir()  # root cannot write to it either
    (line,) = shared_folders.check_driver_files(probe_input(None, folders={str(tmp_path): "mark"}))
    assert line.status == "FAIL"
    assert "cannot be written: IsADirectoryError" in line.detail
