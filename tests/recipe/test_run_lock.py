"""A second start in a run's folder is refused by every command before it writes anything."""

import os
import shutil
from pathlib import Path

import pytest
from verl_longrl.folder_lock import Owner, hold_folders

from recipe.longrl import main, settings
from recipe.longrl.curriculum import __main__ as curriculum
from recipe.longrl.curriculum import mining

pytestmark = pytest.mark.engine
GIVEN = ("data.train_files=[t.parquet]", "data.val_files=[v.parquet]", "actor_rollout_ref.model.path=some/model")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and ".lock" not in path.name}


@pytest.mark.parametrize("start", [main.main, mining.main, curriculum.main])
@pytest.mark.parametrize("place", ["run", "checkpoints"])
def test_a_second_start_is_refused(tmp_path: Path, capsys, start, place: str):
    run, checkpoints = tmp_path / "run", tmp_path / "checkpoints"
    run.mkdir()
    for name in ("stop", "config.yaml", "metrics.jsonl"):
        (run / name).write_text("the first one's")
    before = files(tmp_path)
    if start is curriculum.main:
        checkpoints = run
    with hold_folders([run if place == "run" else checkpoints]), pytest.raises(SystemExit) as ended:
        start([*GIVEN, f"longrl.output_dir={run}", f"trainer.default_local_dir={checkpoints}"])
    assert ended.value.code == 2
    assert f"is in use by process {os.getpid()} on " in capsys.readouterr().err
    assert files(tmp_path) == before


def test_a_dry_run_is_not(tmp_path: Path, capsys):
    """It reports, and leaves the folder as it is; the model that both engines read is prepared elsewhere."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"rope_theta": 1.0}')
    (tmp_path / "run").mkdir()
    rope = "longrl.rope={rope_type: yarn, factor: 4.0, original_max_position_embeddings: 8}"
    overrides = [
        *GIVEN[:2],
        f"actor_rollout_ref.model.path={tmp_path / 'model'}",
        f"longrl.output_dir={tmp_path / 'run'}",
    ]
    with hold_folders([tmp_path / "run"]), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Owner, "is_this_process", lambda _: False)
        config = settings.compose([*overrides, rope])
        settings.resolve(config, dry_run=True)
        prepared = Path(config.actor_rollout_ref.model.path)
        assert (prepared / "config.json").is_file()
        assert files(tmp_path / "run") == {}
    shutil.rmtree(prepared.parent)


def test_a_start_that_is_refused_leaves_no_folder(tmp_path: Path, capsys):
    run = tmp_path / "outputs" / "run"
    with pytest.raises(SystemExit) as ended:
        main.main([*GIVEN, f"longrl.output_dir={run}", "longrl.reward.eta=much"])
    assert ended.value.code == 2
    assert not run.parent.exists()


def test_a_place_that_cannot_be_written_to(tmp_path: Path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as ended:
        main.main([*GIVEN, f"longrl.output_dir={tmp_path / 'file' / 'run'}"])
    assert ended.value.code == 2
    assert f"{tmp_path / 'file' / 'run'} cannot be written: Not a directory" in capsys.readouterr().err
