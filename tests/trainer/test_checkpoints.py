"""A checkpoint counts only when it is whole, and only what the run wrote is ever deleted."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from verl_longrl.trainer import checkpoints


def make(root: Path, step: int, sealed: bool = True, world_size: int = 2) -> Path:
    folder = root / f"global_step_{step}"
    checkpoints.begin_checkpoint(folder)
    (folder / "actor").mkdir()
    (folder / "actor" / "model.bin").write_bytes(b"x" * 10)
    (folder / "data.bin").write_bytes(b"y")
    if sealed:
        checkpoints.seal_checkpoint(folder, world_size)
    return folder


def upstreams(root: Path, step: int) -> Path:
    """A checkpoint as verl writes it."""
    folder = root / f"global_step_{step}"
    (folder / "actor").mkdir(parents=True)
    (folder / "actor" / "model_world_size_1_rank_0.pt").write_bytes(b"weights")
    (folder / "data.pt").write_bytes(b"data")
    (root / checkpoints.TRACKER).write_text(str(step))
    return folder


def steps(root: Path) -> list[int]:
    return [checkpoints.step_of(folder) for folder in checkpoints.checkpoint_folders(root)]


def everything(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


# ---- whole or not ---------------------------------------------------------------------------------------------


def test_newest_whole_is_found_and_pointed_to(tmp_path: Path):
    make(tmp_path, 2)
    newest = make(tmp_path, 10)
    assert checkpoints.newest_whole(tmp_path) == (newest, [])
    assert (tmp_path / checkpoints.TRACKER).read_text() == "10"


def rewrite(folder: Path, **values) -> None:
    manifest = json.loads((folder / checkpoints.MANIFEST).read_text())
    (folder / checkpoints.MANIFEST).write_text(json.dumps({**manifest, **values}))


MANIFESTS = ["", "[]", "{}", "null", "3", '"x"', '{"files', "[" * 100_000, "\0" * 40, "\xff"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: (f / checkpoints.MANIFEST).rename(f / checkpoints.INCOMPLETE), "its writing was interrupted"),
        (lambda f: (f / "actor" / "model.bin").unlink(), "actor/model.bin is missing"),
        (lambda f: (f / "actor" / "model.bin").write_bytes(b"x"), "has 1 bytes, expected 10"),
        (lambda f: shutil.rmtree(f / "actor"), "actor/model.bin is missing"),
        (checkpoints.set_aside, "an earlier start found it damaged"),
        *((lambda f, text=text: (f / checkpoints.MANIFEST).write_text(text), "not readable") for text in MANIFESTS),
        (lambda f: (f / checkpoints.MANIFEST).write_bytes(b"\xff\xfe"), "not readable"),
        (lambda f: ((f / checkpoints.MANIFEST).unlink(), (f / checkpoints.MANIFEST).mkdir()), "not readable"),
        (lambda f: rewrite(f, files=["actor/model.bin"]), "not readable"),
        (lambda f: rewrite(f, files={"actor/model.bin": "10"}), "not readable"),
        (lambda f: rewrite(f, files={"../../../etc/passwd": 10}), "not readable"),
        (lambda f: rewrite(f, world_size="2"), "not readable"),
        (lambda f: rewrite(f, crc32=[]), "not readable"),
        (lambda f: rewrite(f, crc32={"actor/model.bin": 3}), "not readable"),
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
    checkpoints.rotate(make(tmp_path, 8), keep=1)
    assert 4 not in steps(tmp_path)


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
    checkpoints.set_aside(newest)
    assert resumed(tmp_path, earlier) == earlier


def test_a_given_checkpoint_that_cannot_be_resumed_from(tmp_path: Path):
    good, damaged = make(tmp_path / "other", 20), make(tmp_path / "other", 30, sealed=False)
    for path, reason in (
        (damaged, rf"= {damaged}: it has no complete.json.*Complete checkpoints next to it: {good}"),
        (tmp_path / "other" / "global_step_40", rf"there is no such folder. Complete checkpoints next to it: {good}"),
        (tmp_path / "nowhere" / "global_step_40", "no such folder. Complete checkpoints next to it: none"),
        (tmp_path / "other", "expected the name global_step_<number>"),
    ):
        with pytest.raises(checkpoints.CheckpointError, match=reason):
            resumed(tmp_path / "own", path)
    with pytest.raises(checkpoints.CheckpointError, match="written by 2 trainer ranks and this run has 8"):
        resumed(tmp_path / "own", good, world_size=8)


def test_no_whole_checkpoint_removes_an_empty_tracker(tmp_path: Path):
    make(tmp_path, 2, sealed=False)
    (tmp_path / checkpoints.TRACKER).write_text("")  # verl killed while writing it
    assert checkpoints.newest_whole(tmp_path)[0] is None
    checkpoints.point_tracker(tmp_path, None)
    assert not (tmp_path / checkpoints.TRACKER).exists()


def test_missing_folder_means_a_fresh_start(tmp_path: Path):
    assert checkpoints.newest_whole(tmp_path / "absent") == (None, [])
    assert checkpoints.sweep(tmp_path / "absent") == []


def test_world_size_is_compared(tmp_path: Path):
    folder = make(tmp_path, 2, world_size=2)
    checkpoints.check_world_size(folder, 2)
    with pytest.raises(checkpoints.CheckpointError, match="written by 2 trainer ranks and this run has 4"):
        checkpoints.check_world_size(folder, 4)


@pytest.mark.parametrize("name", ["latest", "global_step_00400", "global_step_", "global_step_-1", "global_step_٣"])
def test_other_folder_names_are_refused(tmp_path: Path, name: str):
    with pytest.raises(checkpoints.CheckpointError, match="expected the name global_step_<number>"):
        checkpoints.step_of(tmp_path / name)
    (tmp_path / name).mkdir()
    assert checkpoints.checkpoint_folders(tmp_path) == checkpoints.foreign(tmp_path) == []


def test_manifest_lists_every_file_with_its_checksum(tmp_path: Path):
    folder = make(tmp_path, 2)
    manifest = json.loads((folder / checkpoints.MANIFEST).read_text())
    assert manifest == {
        "world_size": 2,
        "files": {"actor/model.bin": 10, "data.bin": 1},
        "crc32": {"actor/model.bin": "8edf4777", "data.bin": "fbdb2615"},
    }
    assert not (folder / checkpoints.INCOMPLETE).exists()


def test_a_manifest_from_before_checksums(tmp_path: Path):
    folder = make(tmp_path, 2)
    (folder / "actor" / "model.pt").write_bytes(b"z")
    files = {"actor/model.bin": 10, "actor/model.pt": 1, "data.bin": 1}
    (folder / checkpoints.MANIFEST).write_text(json.dumps({"world_size": 2, "files": files}))
    assert checkpoints.find_damage(folder) is None
    assert checkpoints.manifest_of(folder).checkable() == {"actor/model.pt": None}


def test_everything_is_on_the_disk_before_the_manifest_and_its_name_after(tmp_path: Path, monkeypatch):
    synced: list[str] = []
    fsync = os.fsync

    def note(handle: int) -> None:
        synced.append(os.path.relpath(os.readlink(f"/proc/self/fd/{handle}"), tmp_path))
        fsync(handle)

    folder = make(tmp_path, 2, sealed=False)
    monkeypatch.setattr(os, "fsync", note)
    checkpoints.seal_checkpoint(folder, 2)
    at = next(n for n, name in enumerate(synced) if checkpoints.MANIFEST in name)
    assert set(synced[:at]) == {"global_step_2/actor/model.bin", "global_step_2/data.bin", "global_step_2/actor"}
    assert synced[at + 1] == "global_step_2"
    assert synced[-1] == "."  # the tracker's


# ---- what is not ours -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["auto", "disable", "resume_path"])
def test_another_programs_checkpoints_are_refused_and_not_touched(tmp_path: Path, mode: str):
    given = make(tmp_path / "elsewhere", 3)
    root = tmp_path / "checkpoints"
    make(root, 3)
    upstreams(root, 100)
    before = everything(root)
    with pytest.raises(checkpoints.CheckpointError, match=r"global_step_100 without .*CKPT_SAVE_PATH"):
        checkpoints.to_resume_from(mode, root, str(given), 2)
    with pytest.raises(checkpoints.CheckpointError, match="not touched"):
        checkpoints.begin_checkpoint(root / "global_step_100")
    assert checkpoints.sweep(root) == []
    assert everything(root) == before
    later = make(root, 200)
    assert checkpoints.rotate(later, keep=1) == []
    assert {100, 200} <= set(steps(root))


def test_our_own_without_its_manifest_is_refused_not_deleted(tmp_path: Path):
    copied = make(tmp_path, 4)
    (copied / checkpoints.MANIFEST).unlink()
    with pytest.raises(checkpoints.CheckpointError, match=r"copied without these.*copy complete\.json as well"):
        checkpoints.to_resume_from("auto", tmp_path, None, 2)
    assert checkpoints.sweep(tmp_path) == []
    assert copied.is_dir()


def test_a_link_that_leads_nowhere_and_a_file_are_no_checkpoints_of_ours(tmp_path: Path):
    (tmp_path / "global_step_5").symlink_to(tmp_path / "unmounted")
    (tmp_path / "global_step_6").write_text("")
    (tmp_path / "global_step_7").mkdir()  # killed before the marker was in it: empty, so nobody's
    assert [path.name for path in checkpoints.foreign(tmp_path)] == ["global_step_5", "global_step_6"]


# ---- what goes ------------------------------------------------------------------------------------------------


def test_rotation_keeps_whole_ones_and_drops_what_is_older(tmp_path: Path):
    make(tmp_path, 2)
    make(tmp_path, 3, sealed=False)
    make(tmp_path, 4)
    sealed = make(tmp_path, 6)
    make(tmp_path, 8, sealed=False)
    assert checkpoints.rotate(sealed, keep=2) == []
    assert steps(tmp_path) == [4, 6, 8]
    assert checkpoints.rotate(sealed, keep=None) == []


def test_rotation_counts_none_that_is_newer_or_set_aside(tmp_path: Path):
    make(tmp_path, 4)
    for step in (6, 7):  # skipped at the start that resumed from 4; one could not be read, one was damaged
        make(tmp_path, step)
    checkpoints.set_aside(tmp_path / "global_step_6")
    checkpoints.rotate(make(tmp_path, 5), keep=2)
    assert steps(tmp_path) == [4, 5, 6, 7]
    checkpoints.rotate(make(tmp_path, 8), keep=3)
    assert steps(tmp_path) == [5, 6, 7, 8]


def test_what_users_moved_or_added_stays(tmp_path: Path):
    bulk = tmp_path / "bulk"
    root = tmp_path / "checkpoints"
    make(root, 2)
    (root / "global_step_2").rename(bulk)
    (root / "global_step_2").symlink_to(bulk)
    (make(root, 4) / "actor" / "notes.txt").write_text("mine")
    (make(root, 5) / ".nfs0000000000a1").write_text("")  # of a file that another node has open: the rest goes
    lines = checkpoints.rotate(make(root, 6), keep=1)
    assert steps(root) == [4, 6]
    assert "its target stays" in lines[0]
    assert checkpoints.find_damage(bulk) is None
    assert "is not deleted: the run did not write actor/notes.txt" in lines[1]
    assert (root / "global_step_4" / "actor" / "notes.txt").read_text() == "mine"
    assert checkpoints.find_damage(root / "global_step_4") is None


def test_rotation_raises_nothing(tmp_path: Path, monkeypatch):
    make(tmp_path, 2)
    sealed = make(tmp_path, 4)

    def denied(path, *_):
        raise PermissionError(errno.EPERM, "not permitted", str(path))

    monkeypatch.setattr(checkpoints.shutil, "rmtree", denied)
    (line,) = checkpoints.rotate(sealed, keep=1)
    assert "global_step_2 could not be deleted: " in line
    monkeypatch.undo()
    assert checkpoints.foreign(tmp_path) == []  # the rest is known to be ours
    assert len(checkpoints.sweep(tmp_path)) == 1
    assert steps(tmp_path) == [4]


def test_half_written_ones_of_dead_starts_are_swept(tmp_path: Path):
    whole = make(tmp_path, 2)
    half = make(tmp_path, 4, sealed=False)
    (tmp_path / "global_step_6").mkdir()
    damaged = make(tmp_path, 8)
    checkpoints.set_aside(damaged)
    (whole / checkpoints.INCOMPLETE).write_text("killed between manifest and this")
    for left in (whole / ".complete.json.123", tmp_path / ".latest_checkpointed_iteration.txt.7"):
        left.write_text("")
    kept = tmp_path / ".notes.txt.7"
    kept.write_text("mine")
    lines = checkpoints.sweep(tmp_path)
    assert len(lines) == 2
    assert str(half) in lines[0]
    assert "half-written" in lines[0]
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        kept.name,
        "global_step_2",
        "global_step_8",
        checkpoints.TRACKER,
    ]
    assert {path.name for path in whole.iterdir()} == {"actor", "data.bin", checkpoints.MANIFEST}


def test_a_step_saved_again_makes_way_for_itself(tmp_path: Path):
    bad = make(tmp_path, 4)
    (bad / "actor" / "model_world_size_4_rank_3.pt").write_bytes(b"of an earlier start")
    checkpoints.seal_checkpoint(bad, 4)
    checkpoints.set_aside(bad)
    again = make(tmp_path, 4)
    assert set(checkpoints.manifest_of(again).files) == {"actor/model.bin", "data.bin"}
    assert not (again / checkpoints.DAMAGED).exists()


# ---- a full disk ----------------------------------------------------------------------------------------------


@pytest.fixture
def full(monkeypatch):
    """full() fills the disk: whatever is opened for writing has no room for a byte."""
    path_open = Path.open

    def fill() -> None:
        def opened(self, mode="r", *args, **options):
            handle = path_open(self, mode, *args, **options)
            if set(mode) & set("wax+"):
                handle.close()
                raise OSError(errno.ENOSPC, "No space left on device", str(self))
            return handle

        monkeypatch.setattr(Path, "open", opened)

    return fill


def test_a_resume_writes_nothing_where_the_tracker_is_right(tmp_path: Path, full):
    newest = make(tmp_path, 4)
    make(tmp_path, 6, sealed=False)
    (tmp_path / checkpoints.TRACKER).write_text("4")
    full()
    assert len(checkpoints.sweep(tmp_path)) == 1  # which makes room
    found, _ = checkpoints.to_resume_from("auto", tmp_path, None, 2)
    checkpoints.point_tracker(tmp_path, found)
    assert found == newest


def test_no_room_for_the_manifest_leaves_the_last_one_and_no_part_of_it(tmp_path: Path, full):
    good = make(tmp_path, 4)
    half = make(tmp_path, 6, sealed=False)
    full()
    with pytest.raises(OSError, match="No space left"):
        checkpoints.seal_checkpoint(half, 2)
    assert checkpoints.newest_whole(tmp_path)[0] == good
    assert not list(half.glob(".complete*"))


def test_whether_a_disk_is_full_is_found_out_by_writing(tmp_path: Path, full):
    checkpoints.require_room(tmp_path)
    assert not list(tmp_path.iterdir())
    full()
    with pytest.raises(OSError, match="No space left"):
        checkpoints.require_room(tmp_path)
