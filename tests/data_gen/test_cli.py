"""What the command line deletes and overwrites is a run's own."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from data_gen.grounding.__main__ import app
from data_gen.grounding.pipeline import GROUNDING
from data_gen.store import Store

pytestmark = pytest.mark.engine  # transformers' tokenizers are imported


def contents(folder: Path) -> dict[str, str]:
    return {str(path): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Somebody's folder, in which some names are those of stages and of what a run hands out."""
    for name in ("chunk/notes.txt", "export/thesis.tex", "README.md", "config.yaml", "train.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    return tmp_path


def test_a_folder_of_somebody_else_is_left_as_it_is(project: Path):
    before = contents(project)
    reset = CliRunner().invoke(app, ["reset", "ingest", "--output", str(project)])
    assert (reset.exit_code, "holds no run" in reset.output) == (1, True)
    run = CliRunner().invoke(app, ["run", "--input", str(project), "--output", str(project)])
    assert (run.exit_code, "chunk, export, train.parquet, README.md, config.yaml, which no run" in run.output) == (
        1,
        True,
    )
    assert contents(project) == before


def test_what_was_not_handed_out_yet_is_not_deleted(tmp_path: Path):
    store = Store(tmp_path, GROUNDING.shared_parts)
    store.begin("ingest", {})
    (tmp_path / "README.md").write_text("my notes")
    assert CliRunner().invoke(app, ["reset", "ingest", "--output", str(tmp_path)]).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
