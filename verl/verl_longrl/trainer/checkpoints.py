"""Which checkpoint folders are whole, and so safe to resume from; which are the run's own, and so its to delete.

verl writes `global_step_N/` file by file and then a tracker file with N. Killed in between, it leaves a folder
that looks like a checkpoint; killed while writing the tracker, an empty tracker that crashes the next start; and
its rotation deletes the old checkpoint before the new one is complete. Here a checkpoint counts only with its
manifest, which is written last and lists every file with its size and checksum; the tracker is replaced atomically;
old checkpoints go only after the new one is whole.

A folder is the run's own from the first moment: `INCOMPLETE` lies in it before anything else and until the manifest
does. A `global_step_N` with neither is another program's, or a copy that left the manifest out, and is never touched.
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
"""What the manifest is called once a start has found that a file's content is not what was written."""
TRACKER = "latest_checkpointed_iteration.txt"
ADVANTAGES = "advantages.json"
"""What advantages remember between steps."""
WAITING = "waiting.json"
"""Items of the data set whose groups wait for a place in a batch (`longrl.carry_steps`). Their rollouts are in
TransferQueue alone, so a resume asks these prompts again, before the data loader's next ones."""
_FOLDER = re.compile(r"global_step_(0|[1-9][0-9]*)")
_ASIDE = re.compile(r"\.(.+)\.[0-9]+")

Check = Callable[[Path], str | None]
"""Why the checkpoint in a folder is not to be used, or None."""


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be resumed from; the message says why and what to do."""


# ---- files ----------------------------------------------------------------------------------------------------


def write_atomic(path: Path, text: str | Iterable[str]) -> None:
    """Replace `path` by `text` (whole, or in parts) in one step: a reader, also after a power cut, sees the old or the
    new content, never a part."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("w", encoding="utf-8") as handle:
            handle.writelines([text] if isinstance(text, str) else text)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Have the disk hold what a file contains, or which names a folder does."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems do not sync folders
            raise
    finally:
        os.close(handle)


# ---- the manifest ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Manifest:
    """files: name -> bytes. crc32: name -> checksum (`checksums.Written`); None: from before these were written."""

    world_size: int
    files: Mapping[str, int]
    crc32: Mapping[str, str] | None

    def checkable(self) -> dict[str, str | None]:
        """The files whose content can be checked -> what to expect, as `checksums.damaged` takes it."""
        if self.crc32 is None:
            return {name: None for name in self.files if name.endswith(".pt")}
        return {name: self.crc32[name] for name in self.files}


def manifest_of(folder: Path, name: str = MANIFEST) -> Manifest:
    """Raises FileNotFoundError where there is none, and CheckpointError when it cannot be read as one."""
    try:
        read = json.loads((folder / name).read_bytes())
        manifest = Manifest(read["world_size"], read["files"], read.get("crc32"))
        if type(manifest.world_size) is not int:
            raise ValueError(f"world_size = {manifest.world_size!r}")
        for file, size in manifest.files.items():
            if type(size) is not int or file.startswith("/") or ".." in PurePosixPath(file).parts:
                raise ValueError(f"{file!r}: {size!r} is no file of it")
        if manifest.crc32 is not None and not all(isinstance(manifest.crc32[file], str) for file in manifest.files):
            raise ValueError("crc32 holds other things than checksums")
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"its {name} is not readable ({type(error).__name__}: {error})") from error
    return manifest


def require_room(folder: Path) -> None:
    """Raises OSError where there is no room in `folder` for another MiB: what torch raises then is of no use."""
    probe = folder / ".room"
    try:
        with probe.open("wb") as file:
            file.write(bytes(1 << 20))
            file.flush()
            os.fsync(file.fileno())
    finally:
        probe.unlink(missing_ok=True)


def begin(folder: Path) -> None:
    """Claim `folder` (`.../global_step_N`) for a checkpoint that is going to be written; one of ours that is not whole
    makes way. Raises CheckpointError when it holds something else."""
    if folder in foreign(folder.parent):
        raise CheckpointError(f"{folder} holds files that no checkpoint of this run has, and is not touched")
    if folder.is_symlink() or folder.exists():
        remove(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / INCOMPLETE).open("w") as marker:
        marker.write(f"A checkpoint is being written here; it counts once {MANIFEST} is there.\n")
    for name in (MANIFEST, DAMAGED):
        (folder / name).unlink(missing_ok=True)
    sync(folder)
    sync(folder.parent)


def seal(folder: Path, world_size: int, written: Mapping[str, checksums.Written] | None = None) -> None:
    """Declare the checkpoint in `folder` (`.../global_step_N`) whole and make it the one to resume from, when the disk
    holds all of it. written: what ranks have written through already."""
    names = [name for name in _files(folder) if name not in (written or {})]
    all_written = dict(sorted({**(written or {}), **checksums.write_through(folder, names)}.items()))
    for inner in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        sync(inner)
    manifest = {
        "world_size": world_size,
        "files": {name: file.size for name, file in all_written.items()},
        "crc32": {name: file.crc32 for name, file in all_written.items()},
    }
    write_atomic(folder / MANIFEST, json.dumps(manifest, indent=1))
    (folder / INCOMPLETE).unlink(missing_ok=True)
    point_tracker(folder.parent, folder)


def _files(folder: Path) -> Iterator[str]:
    """Names of all files of the checkpoint, without those that say how far it is."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not (path.parent == folder and path.name in (MANIFEST, INCOMPLETE, DAMAGED)):
            yield str(path.relative_to(folder))


# ---- which are whole ------------------------------------------------------------------------------------------


def step_of(folder: Path) -> int:
    """N of `global_step_N`."""
    match = _FOLDER.fullmatch(folder.name)
    if match is None:
        raise CheckpointError(f"{folder} is not a checkpoint folder: expected the name global_step_<number>")
    return int(match[1])


def damage(folder: Path) -> str | None:
    """Why the checkpoint in `folder` is not whole, or None if it is: its files are there and as long as written."""
    try:
        manifest = manifest_of(folder)
        for name, size in manifest.files.items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size} bytes, expected {size}"
    except FileNotFoundError:
        if (folder / DAMAGED).exists():
            return f"a start found it damaged, and renamed its {MANIFEST} to {DAMAGED}"
        return f"it has no {MANIFEST}: its writing was interrupted, or a copy left that file out"
    except (OSError, CheckpointError) as error:
        return str(error)
    return None


def set_aside(folder: Path) -> None:
    """Let the checkpoint in `folder`, a file of which is damaged, no longer count as whole."""
    os.replace(folder / MANIFEST, folder / DAMAGED)


def checkpoint_folders(root: Path) -> list[Path]:
    """All `global_step_N` folders under `root`, oldest first, whole or not."""
    return [path for path in _named(root) if path.is_dir()]


def foreign(root: Path) -> list[Path]:
    """What is called `global_step_N` under `root` and does not say that this program wrote it. An empty folder is
    nobody's."""
    markers = (MANIFEST, INCOMPLETE, DAMAGED)
    return [
        path
        for path in _named(root)
        if not path.is_dir() or (any(path.iterdir()) and not any((path / name).exists() for name in markers))
    ]


def _named(root: Path) -> list[Path]:
    return sorted((path for path in root.glob("global_step_*") if _FOLDER.fullmatch(path.name)), key=step_of)


def newest_whole(root: Path, check: Check = damage) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint under `root` (or None), and one line per damaged one that was passed over."""
    passed_over: list[str] = []
    for folder in reversed(checkpoint_folders(root)):
        reason = check(folder)
        if reason is None:
            return folder, passed_over
        passed_over.append(f"{folder} is not used: {reason}")
    return None, passed_over


def point_tracker(root: Path, folder: Path | None) -> None:
    """Make verl's tracker name the checkpoint `folder` under `root`, or remove it if there is none. Nothing is
    written where it does already, so that a resume needs no room."""
    tracker = root / TRACKER
    if folder is None:
        tracker.unlink(missing_ok=True)
    elif not tracker.is_file() or tracker.read_bytes() != str(step_of(folder)).encode():
        write_atomic(tracker, str(step_of(folder)))


# ---- where a start continues ----------------------------------------------------------------------------------


def to_resume_from(
    mode: str, root: Path, path: str | None, world_size: int, check: Check = damage
) -> tuple[Path | None, list[str]]:
    """The checkpoint that a start with this configuration continues from (None: it begins at step 0), and one line per
    damaged one that was passed over.

    mode, path: trainer.resume_mode and trainer.resume_from_path. root: where the run's own checkpoints are; a run that
    began from a checkpoint of another one continues from its own as soon as it has any. world_size: trainer ranks of
    this start. check: what is asked of a checkpoint. Raises CheckpointError when the run must not start from it, or
    not in this place.
    """
    if others := foreign(root):
        named = ", ".join(folder.name for folder in others[:5])
        raise CheckpointError(
            f"{root} holds {named} without {MANIFEST} or {INCOMPLETE}: another program's, half-written by an early "
            "version of this one, or copied without these. They are not used, not deleted, and none is written beside "
            "them. Fix: another place for this run's checkpoints, trainer.default_local_dir (CKPT_SAVE_PATH) or "
            f"trainer.experiment_name; or move them away; or, of a copy, copy {MANIFEST}, too"
        )
    folder, passed_over = (None, []) if mode == "disable" else newest_whole(root, check)
    if mode == "resume_path":
        given = Path(str(path))
        if folder is None or given.parent.resolve() == root.resolve():
            folder = _given(given, folder, check)
    if folder is not None:
        check_world_size(folder, world_size)
    return folder, passed_over


def _given(given: Path, newest: Path | None, check: Check) -> Path:
    """`given`, if it is a whole checkpoint and as new as the run's `newest` whole one."""
    where, step = f"trainer.resume_from_path = {given}", step_of(given)
    reason = check(given) if given.is_dir() else "there is no such folder"
    if reason is not None:
        whole = [str(folder) for folder in checkpoint_folders(given.parent) if damage(folder) is None]
        raise CheckpointError(f"{where}: {reason}; whole ones in its place: {', '.join(whole) or 'none'}")
    if newest is not None and step_of(newest) > step:
        raise CheckpointError(
            f"{where}: the run has later checkpoints, up to {newest}, which would be mixed with those written from "
            "there on. To continue from the newest, use trainer.resume_mode=auto; to go back, move the later ones "
            "away, or give the new run its own folder with trainer.experiment_name=NAME"
        )
    return given


def check_world_size(folder: Path, world_size: int) -> None:
    """Raise CheckpointError unless `folder` was written by as many trainer ranks as will read it."""
    written_by = manifest_of(folder).world_size
    if written_by != world_size:
        raise CheckpointError(
            f"{folder} was written by {written_by} trainer ranks and this run has {world_size}: resume with the same "
            "trainer.nnodes x trainer.n_gpus_per_node, or start a new run (another trainer.experiment_name) from "
            "its exported weights"
        )


# ---- what goes ------------------------------------------------------------------------------------------------


def rotate(sealed: Path, keep: int | None) -> list[str]:
    """After `sealed` has become whole: delete all but the newest `keep` whole checkpoints up to it (None: keep all),
    and damaged ones older than those. Returns a line for each that did not simply go. Raises nothing."""
    if keep is None:
        return []
    try:
        others = foreign(sealed.parent)
        ours = [folder for folder in checkpoint_folders(sealed.parent) if folder not in others]
    except OSError as error:
        return [f"old checkpoints could not be looked for: {error}"]
    older = [folder for folder in ours if step_of(folder) <= step_of(sealed)]
    whole = [folder for folder in older if damage(folder) is None]
    if len(whole) <= keep:
        return []
    gone = [folder for folder in older if step_of(folder) < step_of(whole[-keep])]
    return [line for folder in gone if (line := remove(folder)) is not None]


def sweep(root: Path) -> list[str]:
    """Delete what dead starts left half-written under `root`, which no other start may be using; a line for each."""
    lines = []
    sweep_asides(root, TRACKER)
    for folder in checkpoint_folders(root):
        if folder.is_symlink():
            continue
        sweep_asides(folder, MANIFEST, ADVANTAGES, WAITING)
        marked = (folder / INCOMPLETE).exists()
        if (folder / MANIFEST).exists():
            (folder / INCOMPLETE).unlink(missing_ok=True)
        elif marked or not any(folder.iterdir()):
            lines.append(remove(folder) or f"{folder}, half-written by a start that ended early, is removed")
    return lines


def sweep_asides(folder: Path, *names: str) -> None:
    """Delete what killed processes were writing in place of these files (`write_atomic`)."""
    for path in folder.glob(".*"):
        if (match := _ASIDE.fullmatch(path.name)) and match[1] in names:
            path.unlink(missing_ok=True)


def remove(folder: Path) -> str | None:
    """Delete a checkpoint of ours. What is not, stays: the target of a link, and a folder to which somebody added
    files. Returns what was not as usual, in words. Raises nothing."""
    try:
        if folder.is_symlink():
            target = folder.resolve()
            folder.unlink()
            return f"{folder} was a link and is gone; what it led to stays: {target}"
        if (problem := _not_to_be_deleted(folder)) is not None:
            return f"{folder} stays: {problem}"
        _delete(folder)
    except OSError as error:
        return f"{folder} could not be deleted: {error}"
    return None


def _not_to_be_deleted(folder: Path) -> str | None:
    """Why the folder, or something in it, is perhaps not ours."""
    lists = [name for name in (MANIFEST, DAMAGED) if (folder / name).exists()]
    if not lists:
        known = (folder / INCOMPLETE).exists() or not any(folder.iterdir())
        return None if known else f"it has no {MANIFEST}"
    try:
        listed = manifest_of(folder, lists[0]).files
    except CheckpointError as error:
        return str(error)
    added = [
        name
        for name in _files(folder)
        if name not in listed and not PurePosixPath(name).name.startswith(".nfs") and not _ASIDE.fullmatch(name)
    ]
    return f"the run did not write {', '.join(added[:5])} in it" if added else None


def _delete(folder: Path) -> None:
    """The marker goes last, so that after a kill in between the next start sweeps the rest."""
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
