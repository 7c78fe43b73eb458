"""Write, verify and rotate checkpoint folders so that a kill at any moment leaves a checkpoint to resume from.

verl writes `global_step_N/` file by file and then a tracker file with N. If it is killed in between, the folder looks
like a checkpoint; if it is killed while writing the tracker, the empty tracker crashes the next start; and its rotation
deletes the old checkpoint before the new one is complete. Here a checkpoint is complete ("whole") only with its
manifest, which lists every file with its size and checksum. The order of a save:

1. `begin_checkpoint` creates the folder with the marker `INCOMPLETE`, and syncs both.
2. The trainer ranks write their files and sync them (`shards.write_through`).
3. `seal_checkpoint` syncs the remaining files and the folders, then replaces the manifest atomically, then deletes the
   marker, then replaces verl's tracker atomically. So a manifest on disk implies that all files are on disk.
4. `rotate` deletes old checkpoints, only now.

A folder belongs to the run from its first moment, through the marker or the manifest. A `global_step_N` with neither
belongs to another program, or is a copy without the manifest, and is never touched.
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from verl_longrl.trainer import checksums

MANIFEST = "complete.json"
INCOMPLETE = "incomplete.txt"
DAMAGED = "damaged.json"
"""The manifest's name after a start has found a file whose content is not what was written."""
TRACKER = "latest_checkpointed_iteration.txt"
ADVANTAGE_STATE_FILE = "advantages.json"
"""The state of `Advantages` between steps."""
WAITING = "waiting.json"
"""Items of the data set whose groups are kept for the next batch (`longrl.carry_steps`). Their rollouts are only in
TransferQueue, so a resume submits these prompts again, before the data loader's next ones."""
_FOLDER = re.compile(r"global_step_(0|[1-9][0-9]*)")
_TEMPORARY = re.compile(r"\.(.+)\.[0-9]+")
"""A file that `write_atomic` had not yet renamed, by the process with this id."""

Check = Callable[[Path], str | None]
"""Returns why the checkpoint in a folder must not be used, or None."""


class CheckpointError(RuntimeError):
    """The run cannot resume from a checkpoint; the message says why and what to do."""


# ---- files ----------------------------------------------------------------------------------------------------


def write_atomic(path: Path, text: str | Iterable[str]) -> None:
    """Replace `path` by `text` (one string, or parts of it) in one step. A reader, even after a power cut, sees either
    the old or the new content, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as handle:
            handle.writelines([text] if isinstance(text, str) else text)
            handle.flush()
            # Without this a power cut after the rename can leave an empty file under the final name.
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    # The rename is an entry of the folder.
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until the disk has a file's content, or a folder's list of names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot sync folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


# ---- the manifest ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Manifest:
    """world_size: trainer ranks that wrote it. files: name -> bytes. crc32: name -> checksum (`checksums.Written`), or
    None in checkpoints of versions without checksums."""

    world_size: int
    files: Mapping[str, int]
    crc32: Mapping[str, str] | None

    def checkable(self) -> dict[str, str | None]:
        """name -> expected checksum of the files whose content can be checked, for `checksums.damaged`."""
        if self.crc32 is None:
            return {name: None for name in self.files if name.endswith(".pt")}
        return {name: self.crc32[name] for name in self.files}


def manifest_of(folder: Path, name: str = MANIFEST) -> Manifest:
    """Raises FileNotFoundError if it is missing, and CheckpointError if it is not a valid manifest."""
    try:
        content = json.loads((folder / name).read_bytes())
        manifest = Manifest(content["world_size"], content["files"], content.get("crc32"))
        if type(manifest.world_size) is not int:
            raise ValueError(f"world_size = {manifest.world_size!r}")
        for file, size in manifest.files.items():
            # The files named here will be read, so a path that leads out of the folder is refused.
            if type(size) is not int or file.startswith("/") or ".." in PurePosixPath(file).parts:
                raise ValueError(f"{file!r}: {size!r} is not a file of it")
        if manifest.crc32 is not None and not all(isinstance(manifest.crc32[file], str) for file in manifest.files):
            raise ValueError("crc32 has values that are not checksums")
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"its {name} is not readable ({type(error).__name__}: {error})") from error
    return manifest


def require_room(folder: Path) -> None:
    """Raises OSError if `folder` has no room for another MiB. torch's own error on a full disk does not say so."""
    probe = folder / ".room"
    try:
        with probe.open("wb") as file:
            file.write(bytes(1 << 20))
            file.flush()
            os.fsync(file.fileno())
    finally:
        probe.unlink(missing_ok=True)


def begin_checkpoint(folder: Path) -> None:
    """Claim `folder` (`.../global_step_N`) for a checkpoint that is about to be written, and delete one of ours in it.

    Raises CheckpointError when the folder contains something else.
    """
    if folder in foreign(folder.parent):
        raise CheckpointError(f"{folder} contains files that this run did not write, and is not touched")
    if folder.is_symlink() or folder.exists():
        remove(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / INCOMPLETE).open("w") as marker:
        marker.write(f"A checkpoint is being written here; it counts once {MANIFEST} is there.\n")
    # What could not be deleted above must not count as whole.
    for name in (MANIFEST, DAMAGED):
        (folder / name).unlink(missing_ok=True)
    # Before any other file, so that after a power cut the folder is known to be ours.
    sync(folder)
    sync(folder.parent)


def seal_checkpoint(folder: Path, world_size: int, written: Mapping[str, checksums.Written] | None = None) -> None:
    """Make the checkpoint in `folder` (`.../global_step_N`) whole and the one to resume from, once all of it is on
    disk.

    written: files that ranks have synced already.
    """
    synced = written or {}
    names = [name for name in _files(folder) if name not in synced]
    all_written = dict(sorted({**synced, **checksums.write_through(folder, names)}.items()))
    # Folders after their content, inner ones first.
    for inner in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        sync(inner)
    manifest = {
        "world_size": world_size,
        "files": {name: file.size for name, file in all_written.items()},
        "crc32": {name: file.crc32 for name, file in all_written.items()},
    }
    write_atomic(folder / MANIFEST, json.dumps(manifest, indent=1))
    # From here on the checkpoint is whole. A kill before the next lines leaves the marker, which `sweep` deletes, or a
    # tracker of an older checkpoint, which a resume does not trust.
    (folder / INCOMPLETE).unlink(missing_ok=True)
    point_tracker(folder.parent, folder)


def _files(folder: Path) -> Iterator[str]:
    """Names of all files of the checkpoint, except manifest and marker."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not (path.parent == folder and path.name in (MANIFEST, INCOMPLETE, DAMAGED)):
            yield str(path.relative_to(folder))


# ---- verifying -------------------------------------------------------------------------------------------


def step_of(folder: Path) -> int:
    """N of `global_step_N`."""
    match = _FOLDER.fullmatch(folder.name)
    if match is None:
        raise CheckpointError(f"{folder} is not a checkpoint folder: expected the name global_step_<number>")
    return int(match[1])


def find_damage(folder: Path) -> str | None:
    """Why the checkpoint in `folder` is not whole; None if all files of its manifest exist with their sizes."""
    try:
        manifest = manifest_of(folder)
        # Sizes alone, because the files may have terabytes. The ranks check the content before they load it
        # (`shards.damaged`).
        for name, size in manifest.files.items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size} bytes, expected {size}"
    except FileNotFoundError:
        if (folder / DAMAGED).exists():
            return f"an earlier start found it damaged, and renamed its {MANIFEST} to {DAMAGED}"
        return f"it has no {MANIFEST}: its writing was interrupted, or it is a copy without that file"
    except (OSError, CheckpointError) as error:
        return str(error)
    return None


def set_aside(folder: Path) -> None:
    """Mark the checkpoint in `folder` as damaged, so that it no longer counts as whole."""
    os.replace(folder / MANIFEST, folder / DAMAGED)


def checkpoint_folders(root: Path) -> list[Path]:
    """All `global_step_N` folders under `root`, oldest first, whole or not."""
    return [path for path in _named(root) if path.is_dir()]


def foreign(root: Path) -> list[Path]:
    """Files and folders named `global_step_N` under `root` that this program did not write. An empty folder belongs to
    nobody."""
    unmarked = []
    for path in _named(root):
        marked = any((path / name).exists() for name in (MANIFEST, INCOMPLETE, DAMAGED))
        if not path.is_dir() or (any(path.iterdir()) and not marked):
            unmarked.append(path)
    return unmarked


def _named(root: Path) -> list[Path]:
    return sorted((path for path in root.glob("global_step_*") if _FOLDER.fullmatch(path.name)), key=step_of)


def newest_whole(root: Path, check: Check = find_damage) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint under `root` (or None), and a line for each newer one that is skipped."""
    skipped: list[str] = []
    for folder in reversed(checkpoint_folders(root)):
        reason = check(folder)
        if reason is None:
            return folder, skipped
        skipped.append(f"{folder} is not used: {reason}")
    return None, skipped


def point_tracker(root: Path, folder: Path | None) -> None:
    """Let verl's tracker name the checkpoint `folder` under `root`, or delete the tracker without a folder.

    Writes nothing if the tracker is right already, so that a resume works on a full disk.
    """
    tracker = root / TRACKER
    if folder is None:
        tracker.unlink(missing_ok=True)
    elif not tracker.is_file() or tracker.read_bytes() != str(step_of(folder)).encode():
        write_atomic(tracker, str(step_of(folder)))


# ---- resuming ------------------------------------------------------------------------------------------------


def to_resume_from(
    mode: str, root: Path, path: str | None, world_size: int, check: Check = find_damage
) -> tuple[Path | None, list[str]]:
    """The checkpoint from which a start with this configuration resumes (None: it begins at step 0), and a line for
    each newer one that is skipped.

    mode, path: trainer.resume_mode and trainer.resume_from_path. root: folder of the run's own checkpoints; a run that
    began from another run's checkpoint resumes from its own as soon as it has one. world_size: trainer ranks of this
    start. check: verifies a checkpoint. Raises CheckpointError if the run must not start from the checkpoint, or not
    in this folder.
    """
    if others := foreign(root):
        named = ", ".join(folder.name for folder in others[:5])
        raise CheckpointError(
            f"{root} contains {named} without {MANIFEST} or {INCOMPLETE}: written by another program, half-written by "
            "an early version of this one, or copied without these files. They are neither used nor deleted, and no "
            "checkpoint is written next to them. Fix: use another folder for this run's checkpoints "
            "(trainer.default_local_dir, CKPT_SAVE_PATH or trainer.experiment_name), move them away, or, for a copy, "
            f"copy {MANIFEST} as well"
        )
    folder, skipped = (None, []) if mode == "disable" else newest_whole(root, check)
    if mode == "resume_path":
        # The path may lead to another run's checkpoint, from which this run once began. By now it may have checkpoints
        # of its own, which are newer.
        requested = Path(str(path))
        if folder is None or requested.parent.resolve() == root.resolve():
            folder = _require_newest(requested, folder, check)
    if folder is not None:
        check_world_size(folder, world_size)
    return folder, skipped


def _require_newest(requested: Path, newest: Path | None, check: Check) -> Path:
    """`requested`, if it is a whole checkpoint and at least as new as the run's `newest` whole one."""
    where, step = f"trainer.resume_from_path = {requested}", step_of(requested)
    reason = check(requested) if requested.is_dir() else "there is no such folder"
    if reason is not None:
        whole = [str(folder) for folder in checkpoint_folders(requested.parent) if find_damage(folder) is None]
        raise CheckpointError(f"{where}: {reason}. Complete checkpoints next to it: {', '.join(whole) or 'none'}")
    if newest is not None and step_of(newest) > step:
        raise CheckpointError(
            f"{where}: the run has later checkpoints, up to {newest}, which would be mixed with new ones. Fix: to "
            "resume from the newest, use trainer.resume_mode=auto; to go back, move the later ones away, or give the "
            "new run its own folder with trainer.experiment_name=NAME"
        )
    return requested


def check_world_size(folder: Path, world_size: int) -> None:
    """Raise CheckpointError unless as many trainer ranks wrote `folder` as will read it."""
    written_by = manifest_of(folder).world_size
    if written_by != world_size:
        raise CheckpointError(
            f"{folder} was written by {written_by} trainer ranks and this run has {world_size}. Fix: resume with the "
            "same trainer.nnodes x trainer.n_gpus_per_node, or start a new run (another trainer.experiment_name) from "
            "its exported weights"
        )


# ---- deleting -------------------------------------------------------------------------------------------------


def rotate(sealed: Path, keep: int | None) -> list[str]:
    """After `sealed` has become whole, delete all but the newest `keep` whole checkpoints up to it (None: keep all),
    and damaged ones older than those.

    Returns a line for each problem. Raises nothing, because a full or slow disk must not end the run here.
    """
    if keep is None:
        return []
    try:
        others = foreign(sealed.parent)
        ours = [folder for folder in checkpoint_folders(sealed.parent) if folder not in others]
    except OSError as error:
        return [f"old checkpoints could not be listed: {error}"]
    older = [folder for folder in ours if step_of(folder) <= step_of(sealed)]
    whole = [folder for folder in older if find_damage(folder) is None]
    if len(whole) <= keep:
        return []
    # With keep = 2 and whole checkpoints of steps 10, 20 and 30, everything before step 20 is outdated.
    outdated = [folder for folder in older if step_of(folder) < step_of(whole[-keep])]
    return [line for folder in outdated if (line := remove(folder)) is not None]


def sweep(root: Path) -> list[str]:
    """Delete half-written checkpoints of dead starts under `root`, which no other start may be using; a line for
    each."""
    lines = []
    sweep_temporary_files(root, TRACKER)
    for folder in checkpoint_folders(root):
        if folder.is_symlink():
            continue
        sweep_temporary_files(folder, MANIFEST, ADVANTAGE_STATE_FILE, WAITING)
        # An empty folder was created by a start that ended before it could write the marker.
        marked = (folder / INCOMPLETE).exists()
        if (folder / MANIFEST).exists():
            # A kill after the manifest was written left the marker, but the checkpoint is whole.
            (folder / INCOMPLETE).unlink(missing_ok=True)
        elif marked or not any(folder.iterdir()):
            lines.append(remove(folder) or f"deleted {folder}, half-written by a start that ended early")
    return lines


def sweep_temporary_files(folder: Path, *names: str) -> None:
    """Delete files that killed processes had not yet renamed to these names (`write_atomic`)."""
    for path in folder.glob(".*"):
        if (match := _TEMPORARY.fullmatch(path.name)) and match[1] in names:
            path.unlink(missing_ok=True)


def remove(folder: Path) -> str | None:
    """Delete a checkpoint of ours, except the target of a link, and a folder to which somebody added files.

    Returns a line if it was not simply deleted. Raises nothing.
    """
    try:
        if folder.is_symlink():
            target = folder.resolve()
            folder.unlink()
            return f"{folder} was a link and is deleted; its target stays: {target}"
        if (problem := _not_to_be_deleted(folder)) is not None:
            return f"{folder} is not deleted: {problem}"
        _delete(folder)
    except OSError as error:
        return f"{folder} could not be deleted: {error}"
    return None


def _not_to_be_deleted(folder: Path) -> str | None:
    """Why the folder, or a file in it, may not be ours."""
    manifests = [name for name in (MANIFEST, DAMAGED) if (folder / name).exists()]
    if not manifests:
        half_written = (folder / INCOMPLETE).exists() or not any(folder.iterdir())
        return None if half_written else f"it has no {MANIFEST}"
    try:
        listed = manifest_of(folder, manifests[0]).files
    except CheckpointError as error:
        return str(error)
    added = []
    for name in _files(folder):
        # NFS renames a deleted file that some process has open to such a name.
        of_nfs = PurePosixPath(name).name.startswith(".nfs")
        if name not in listed and not of_nfs and not _TEMPORARY.fullmatch(name):
            added.append(name)
    return f"the run did not write {', '.join(added[:5])}" if added else None


def _delete(folder: Path) -> None:
    """Turn the manifest into the marker, delete the files, and the marker last.

    So after a kill in between, the checkpoint does not count as whole, and the next start sweeps the rest.
    """
    marker = folder / INCOMPLETE
    for name in (MANIFEST, DAMAGED):
        if (folder / name).exists():
            os.replace(folder / name, marker)
    for path in list(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path != marker:
            path.unlink()
    marker.unlink(missing_ok=True)
    folder.rmdir()
