"""Create folders on the local disk that only this user can access.

In /tmp, anybody can create a folder with a name that a program is known to use, and leave links, sockets or code in it.
So all temporary files of runs are below one folder with mode 0700, which is used only if it belongs to this user and is
not a link. Each run has its own folder in it, which is removed after the run. The folder of a killed run is removed
when the next run starts.
"""

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recipe.longrl.settings import SettingsError

LONGEST = 43
"""Longest path of a run's folder: Ray creates sockets below it, and the kernel limits their paths to 107 characters."""
LOCK = "lock"


class NotPrivate(SettingsError):
    """A folder that somebody else created or can write to; the message names it and a fix."""


def make_private(folder: Path) -> Path:
    """Create `folder` for this user alone, or check an existing one. Raises NotPrivate if others may have used it."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if (problem := _open_to_others(folder.lstat())) is not None:
            raise NotPrivate(
                f"{folder} {problem}, but your runs would create sockets in it. Fix: have it removed, or set TMPDIR to "
                "a private folder"
            ) from None
        folder.chmod(0o700)
    return folder


def _open_to_others(stat_result: os.stat_result) -> str | None:
    if not stat.S_ISDIR(stat_result.st_mode):
        return "is a link or a file, not a folder"
    if stat_result.st_uid != os.getuid():
        return "belongs to another user"
    return "can be written by others" if stat_result.st_mode & 0o022 else None


def user_folder() -> Path:
    """The folder for all temporary files of this user's runs on this machine. Raises NotPrivate."""
    name = f"longrl-{os.getuid()}"
    base = Path(tempfile.gettempdir())
    too_long = len(str(base / name)) + 9 > LONGEST
    return make_private((Path("/tmp") if too_long else base) / name)


@contextmanager
def run_folder() -> Iterator[Path]:
    """A new folder, removed afterwards. Also removes the folders of killed runs. Raises NotPrivate."""
    root = user_folder()
    _sweep(root)
    folder = Path(tempfile.mkdtemp(prefix="", dir=root))
    with (folder / LOCK).open("w") as lock:
        # The kernel releases the lock when this process ends, also if it is killed.
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(root: Path) -> None:
    for lock in root.glob(f"*/{LOCK}"):
        with lock.open() as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # its run is alive
            shutil.rmtree(lock.parent, ignore_errors=True)
