"""Lock a run's folder and its checkpoints' folder, so that only one process writes there."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from verl_longrl import folder_lock
from verl_longrl.data.jsonl import is_disk_full

FIX = (
    "wait for it, or stop it (`touch stop` in the folder, or SIGTERM; it saves a checkpoint first), or give this run "
    "its own folder with trainer.experiment_name=NAME"
)


@contextmanager
def hold(folders: Iterable[Path]) -> Iterator[None]:
    """Lock these folders while it lasts (`verl_longrl.folder_lock`).

    Raises FolderInUse with a fix, and OSError where a disk is full.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(folder_lock.hold_folders(folders))
        except folder_lock.FolderInUse as error:
            raise folder_lock.FolderInUse(f"{error}. Fix: {FIX}") from error
        except OSError as error:
            if is_disk_full(error):
                raise
            raise folder_lock.FolderInUse(
                f"{error.filename or 'the run folder'} cannot be written: {error.strerror}. Fix: make it writable, or "
                "name another folder"
            ) from error
        yield


def other_holder(folders: Iterable[Path]) -> folder_lock.Owner | None:
    """Another process that has locked one of the folders, or may have; None without one."""
    owners = (folder_lock.find_holder(folder) for folder in folders)
    return next((owner for owner in owners if owner and not owner.is_this_process()), None)
