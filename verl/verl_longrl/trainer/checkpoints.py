"""Which checkpoint folders are whole, and so safe to resume from.

Upstream writes `global_step_N/` file by file and then a tracker file with N. Killed in between, it leaves a folder
that looks like a checkpoint; killed while writing the tracker, an empty tracker that crashes the next start; and
its rotation deletes the old checkpoint before the new one is complete. Here a checkpoint counts only with its
manifest, which is written last and lists every file with its size; the tracker is replaced atomically; old
checkpoints go only after the new one is whole.
"""

import json
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

MANIFEST = "complete.json"
TRACKER = "latest_checkpointed_iteration.txt"
_FOLDER = re.compile(r"global_step_(\d+)")


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be resumed from; the message says why and what to do."""


def write_atomic(path: Path, text: str | Iterable[str]) -> None:
    """Replace `path` by `text` (whole, or in parts) in one step: a reader sees the old or the new content, never a
    part."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with aside.open("w") as handle:
        handle.writelines([text] if isinstance(text, str) else text)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(aside, path)


def seal(folder: Path, world_size: int) -> None:
    """Declare the checkpoint in `folder` (`.../global_step_N`) whole and make it the one to resume from."""
    files = {str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}
    files.pop(MANIFEST, None)
    write_atomic(folder / MANIFEST, json.dumps({"world_size": world_size, "files": files}, indent=1))
    write_atomic(folder.parent / TRACKER, str(step_of(folder)))


def step_of(folder: Path) -> int:
    """N of `global_step_N`."""
    match = _FOLDER.fullmatch(folder.name)
    if match is None:
        raise CheckpointError(f"{folder} is not a checkpoint folder: expected the name global_step_<number>")
    return int(match[1])


def damage(folder: Path) -> str | None:
    """Why the checkpoint in `folder` is not whole, or None if it is."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError:
        return f"it has no {MANIFEST}: its writing was interrupted"
    except json.JSONDecodeError as error:
        return f"its {MANIFEST} is not readable ({error})"
    for name, size in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes, expected {size}"
    return None


def checkpoint_folders(root: Path) -> list[Path]:
    """All `global_step_N` folders under `root`, oldest first, whole or not."""
    found = [p for p in root.glob("global_step_*") if _FOLDER.fullmatch(p.name)] if root.is_dir() else []
    return sorted(found, key=step_of)


def newest_whole(root: Path) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint under `root` (or None), and one line per damaged one that was passed over."""
    passed_over: list[str] = []
    for folder in reversed(checkpoint_folders(root)):
        reason = damage(folder)
        if reason is None:
            return folder, passed_over
        passed_over.append(f"{folder} is not used: {reason}")
    return None, passed_over


def point_tracker(root: Path, folder: Path | None) -> None:
    """Make upstream's tracker name the checkpoint `folder` under `root`, or remove it if there is none."""
    if folder is not None:
        write_atomic(root / TRACKER, str(step_of(folder)))
    else:
        (root / TRACKER).unlink(missing_ok=True)


def to_resume_from(mode: str, root: Path, path: str | None, world_size: int) -> tuple[Path | None, list[str]]:
    """The checkpoint that a start with this configuration continues from (None: it begins at step 0), and one line per
    damaged one that was passed over.

    mode, path: trainer.resume_mode and trainer.resume_from_path. root: where the run's own checkpoints are; a run that
    began from a checkpoint of another one continues from its own as soon as it has any. world_size: trainer ranks of
    this start. Raises CheckpointError when the run must not start from it.
    """
    folder, passed_over = (None, []) if mode == "disable" else newest_whole(root)
    if mode == "resume_path":
        given = Path(str(path))
        if folder is None or given.parent.resolve() == root.resolve():
            folder = _given(given, folder)
    if folder is not None:
        check_world_size(folder, world_size)
    return folder, passed_over


def _given(given: Path, newest: Path | None) -> Path:
    """`given`, if it is a whole checkpoint and as new as the run's `newest` whole one."""
    where, step = f"trainer.resume_from_path = {given}", step_of(given)
    reason = damage(given) if given.is_dir() else "there is no such folder"
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
    written_by = json.loads((folder / MANIFEST).read_text())["world_size"]
    if written_by != world_size:
        raise CheckpointError(
            f"{folder} was written by {written_by} trainer ranks and this run has {world_size}: resume with the same "
            "trainer.nnodes x trainer.n_gpus_per_node, or start a new run (another trainer.experiment_name) from "
            "its exported weights"
        )


def rotate(root: Path, keep: int | None) -> list[Path]:
    """Delete all but the newest `keep` whole checkpoints (None: keep all), and damaged ones older than those."""
    if keep is None:
        return []
    whole = [folder for folder in checkpoint_folders(root) if damage(folder) is None]
    if len(whole) <= keep:
        return []
    oldest_kept = step_of(whole[-keep])
    removed = [folder for folder in checkpoint_folders(root) if step_of(folder) < oldest_kept]
    for folder in removed:
        shutil.rmtree(folder)
    return removed
