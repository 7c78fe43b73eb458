"""A checkpoint counts only when it is whole."""

import json
from pathlib import Path

import pytest
from verl_longrl.trainer import checkpoints


def make(root: Path, step: int, sealed: bool = True, world_size: int = 2) -> Path:
    folder = root / f"global_step_{step}"
    (folder / "actor").mkdir(parents=True)
    (folder / "actor" / "model.pt").write_bytes(b"x" * 10)
    (folder / "data.pt").write_bytes(b"y")
    if sealed:
        checkpoints.seal(folder, world_size)
    return folder


def test_newest_whole_is_found_and_pointed_to(tmp_path: Path):
    make(tmp_path, 2)
    newest = make(tmp_path, 10)
    assert checkpoints.newest_whole(tmp_path) == (newest, [])
    assert (tmp_path / checkpoints.TRACKER).read_text() == "10"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: (f / checkpoints.MANIFEST).unlink(), "its writing was interrupted"),
        (lambda f: (f / checkpoints.MANIFEST).write_text('{"files'), "not readable"),
        (lambda f: (f / "actor" / "model.pt").unlink(), "actor/model.pt is missing"),
        (lambda f: (f / "actor" / "model.pt").write_bytes(b"x"), "has 1 bytes, expected 10"),
    ],
)
def test_damaged_checkpoint_is_passed_over_with_its_reason(tmp_path: Path, damage, reason: str):
    good, bad = make(tmp_path, 4), make(tmp_path, 6)
    damage(bad)
    found, passed_over = checkpoints.to_resume_from("auto", tmp_path, None, world_size=2)
    assert found == good
    assert len(passed_over) == 1
    assert str(bad) in passed_over[0]
    assert reason in passed_over[0]
    checkpoints.point_tracker(tmp_path, found)
    assert (tmp_path / checkpoints.TRACKER).read_text() == "4"


def resumed(root: Path, path: Path, world_size: int = 2) -> Path | None:
    return checkpoints.to_resume_from("resume_path", root, str(path), world_size)[0]


def test_a_given_checkpoint_of_another_run(tmp_path: Path):
    own, other = tmp_path / "own", tmp_path / "other"
    given = make(other, 20)
    make(other, 30)
    assert resumed(own, given) == given
    begun = make(own, 22)
    assert resumed(own, given) == begun  # the same command again, after a kill


def test_a_given_checkpoint_of_the_run_itself(tmp_path: Path):
    earlier, newest = make(tmp_path, 20), make(tmp_path, 30)
    assert resumed(tmp_path, newest) == newest
    with pytest.raises(checkpoints.CheckpointError, match=r"later checkpoints, up to .*_30.*resume_mode=auto.*move"):
        resumed(tmp_path, earlier)
    (newest / checkpoints.MANIFEST).unlink()
    assert resumed(tmp_path, earlier) == earlier


def test_a_given_checkpoint_that_cannot_be_resumed_from(tmp_path: Path):
    good, damaged = make(tmp_path / "other", 20), make(tmp_path / "other", 30, sealed=False)
    for path, reason in (
        (damaged, rf"= {damaged}: it has no complete.json.*; whole ones in its place: {good}"),
        (tmp_path / "other" / "global_step_40", rf"there is no such folder; whole ones in its place: {good}"),
        (tmp_path / "nowhere" / "global_step_40", "no such folder; whole ones in its place: none"),
        (tmp_path / "other", "expected the name global_step_<number>"),
    ):
        with pytest.raises(checkpoints.CheckpointError, match=reason):
            resumed(tmp_path / "own", path)
    with pytest.raises(checkpoints.CheckpointError, match="written by 2 trainer ranks and this run has 8"):
        resumed(tmp_path / "own", good, world_size=8)


def test_no_whole_checkpoint_removes_an_empty_tracker(tmp_path: Path):
    make(tmp_path, 2, sealed=False)
    (tmp_path / checkpoints.TRACKER).write_text("")  # upstream killed while writing it
    assert checkpoints.newest_whole(tmp_path)[0] is None
    checkpoints.point_tracker(tmp_path, None)
    assert not (tmp_path / checkpoints.TRACKER).exists()


def test_missing_folder_means_a_fresh_start(tmp_path: Path):
    assert checkpoints.newest_whole(tmp_path / "absent") == (None, [])


def test_rotation_keeps_whole_ones_and_drops_what_is_older(tmp_path: Path):
    make(tmp_path, 2)
    make(tmp_path, 3, sealed=False)
    make(tmp_path, 4)
    make(tmp_path, 6)
    being_written = make(tmp_path, 8, sealed=False)
    removed = checkpoints.rotate(tmp_path, keep=2)
    assert [checkpoints.step_of(folder) for folder in removed] == [2, 3]
    assert being_written.exists()
    assert checkpoints.rotate(tmp_path, keep=None) == []


def test_world_size_is_compared(tmp_path: Path):
    folder = make(tmp_path, 2, world_size=2)
    checkpoints.check_world_size(folder, 2)
    with pytest.raises(checkpoints.CheckpointError, match="written by 2 trainer ranks and this run has 4"):
        checkpoints.check_world_size(folder, 4)


def test_other_folder_names_are_refused(tmp_path: Path):
    with pytest.raises(checkpoints.CheckpointError, match="expected the name global_step_<number>"):
        checkpoints.step_of(tmp_path / "latest")


def test_manifest_lists_every_file(tmp_path: Path):
    manifest = json.loads((make(tmp_path, 2) / checkpoints.MANIFEST).read_text())
    assert manifest == {"world_size": 2, "files": {"actor/model.pt": 10, "data.pt": 1}}
