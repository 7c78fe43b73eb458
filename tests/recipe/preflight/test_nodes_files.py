"""What is read is compared with the driver's, what is written must be one folder for all."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from recipe.longrl.preflight.nodes import files, folders
from recipe.longrl.preflight.nodes.question import Driver, Node, Question

pytestmark = pytest.mark.engine
NODE = Node("abc", "n0", "127.0.0.1", 1, 1, 1, 0)
KEY = "actor_rollout_ref.model.path"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a small and a large file."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "weights").write_bytes(bytes(3 * 2**20))
    return folder


@pytest.fixture
def look(composed):
    """look(model, the driver's fingerprints) -> (status, detail) of the one line."""

    def run(path, expected: dict[str, str]) -> tuple[str, str]:
        question = Question(composed(f"{KEY}={path}"), NODE, Driver("", "", files={KEY: expected}))
        (found,) = files.same(question)
        return found.status, found.detail

    return run


def test_equal_files(look, model: Path):
    assert look(model, files.fingerprints(str(model)))[0] == "ok"


@pytest.mark.parametrize("at", [0, 3 * 2**19, 3 * 2**20 - 1])
def test_a_large_file_that_differs_at_its_beginning_middle_or_end(look, model: Path, at: int):
    before = files.fingerprints(str(model))
    with (model / "weights").open("r+b") as content:
        content.seek(at)
        content.write(b"x")
    status, detail = look(model, before)
    assert status == "FAIL"
    assert f"{KEY} = {model} is not the driver's: weights 3145728 bytes, " in detail
    assert f"expected {before['weights']}" in detail
    assert "config.json" not in detail


def test_a_file_that_is_missing_or_cut_off(look, model: Path):
    before = files.fingerprints(str(model))
    (model / "config.json").unlink()
    (model / "weights").write_bytes(bytes(5))
    detail = look(model, before)[1]
    assert "config.json missing, expected 2 bytes" in detail
    assert "weights 5 bytes" in detail


def test_a_model_that_cannot_be_read(look, model: Path, tmp_path: Path):
    expected = files.fingerprints(str(model))
    status, detail = look(tmp_path / "elsewhere", expected)
    assert status == "FAIL"
    assert f"{KEY} = {tmp_path / 'elsewhere'} cannot be read: FileNotFoundError" in detail
    assert "a file system that every node mounts" in detail


def test_a_model_of_the_hub_that_this_node_has_not_cached(look, monkeypatch, tmp_path: Path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert look("some/model", {})[0] == "warn"
    assert look("some/model", {"some/model": "commit 1"})[0] == "warn"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    status, detail = look("some/model", {"some/model": "commit 1"})
    assert status == "FAIL"
    assert "HF_HUB_OFFLINE forbids to fetch it" in detail


def test_all_that_is_read(composed):
    config = composed("longrl.reward.scorers=[/mine.py, a.module]", "data.train_files=[/a.parquet, 's3://b/c.parquet']")
    read = files.read_by_all(config)
    assert read["data.train_files[0]"] == "/a.parquet"
    assert "data.train_files[1]" not in read  # fetched by every node when the run starts
    assert read["longrl.reward.scorers[0]"] == "/mine.py"


@pytest.fixture
def run_folders(tmp_path: Path):
    """A configuration whose run writes into a folder that is not there yet."""
    written = {"longrl": {"output_dir": str(tmp_path / "run")}}
    return OmegaConf.create(written | {"trainer": {"default_local_dir": str(tmp_path / "run" / "checkpoints")}})


def asked(marks: dict[str, str]) -> Question:
    return Question(None, NODE, Driver("", "", folders=marks))  # type: ignore[arg-type]


def test_a_shared_folder_leaves_nothing_behind(run_folders, tmp_path: Path):
    with folders.marks(run_folders) as marks:
        assert list(marks) == [str(tmp_path)]
        assert list(folders.shared(asked(marks))) == []
        assert [found.status for found in folders.answered(marks, "abc")] == ["ok"]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_shared(run_folders, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(folders, "SEEN_TIMEOUT_S", 0.1)
    with folders.marks(run_folders) as marks:
        (tmp_path / next(iter(marks.values()))).unlink()  # as on a node with a disk of its own
        (found,) = folders.shared(asked(marks))
        assert found.status == "FAIL"
        assert f"{tmp_path} is not the driver's" in found.detail
        (found,) = folders.answered(marks, "abc")
        assert found.status == "FAIL"
        assert "the driver does not see what was written" in found.detail


def test_a_folder_that_cannot_be_written(tmp_path: Path):
    gone = {str(tmp_path / "gone"): "mark"}
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "mark").write_text("")
    (tmp_path / "gone" / "mark-abc").mkdir()  # what refuses root too
    (found,) = folders.shared(asked(gone))
    assert found.status == "FAIL"
    assert "cannot be written: IsADirectoryError" in found.detail
