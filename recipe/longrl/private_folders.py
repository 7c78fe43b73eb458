"""Folders on this machine's disk that nobody but this user can look into, or have made beforehand.

In /tmp anybody can make a folder under a name that a program is known to use, and leave links, sockets or code there.
So everything that runs put there is below one folder of mode 0700, used only if it is this user's and no link. A run
has a folder of its own in it, gone when the run is; what a killed run left is removed when the next one begins.
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
"""Characters of a run's folder: Ray puts sockets below it, whose paths the kernel limits to 107."""
LOCK = "lock"


class NotPrivate(SettingsError):
    """A folder that somebody else made, or can write to; the message says which and what to do."""


def private(folder: Path) -> Path:
    """Make `folder`, for this user alone, unless it is there. Raises NotPrivate if others may have put something in."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if (problem := _open_to_others(folder.lstat())) is not None:
            raise NotPrivate(
                f"{folder} {problem}, and runs of yours would keep sockets there. Fix: have it removed, or set TMPDIR "
                "to a folder of your own"
            ) from None
        folder.chmod(0o700)
    return folder


def _open_to_others(found: os.stat_result) -> str | None:
    if not stat.S_ISDIR(found.st_mode):
        return "is no folder but a link or file"
    if found.st_uid != os.getuid():
        return "is another user's"
    return "can be written in by others" if found.st_mode & 0o022 else None


def of_this_user() -> Path:
    """The folder for all that this user's runs put on this machine's disk. Raises NotPrivate."""
    name = f"longrl-{os.getuid()}"
    base = Path(tempfile.gettempdir())
    too_long = len(str(base / name)) + 9 > LONGEST
    return private((Path("/tmp") if too_long else base) / name)


@contextmanager
def of_a_run() -> Iterator[Path]:
    """A new folder while it lasts. Also removes those of runs that ended without removing theirs. Raises NotPrivate."""
    root = of_this_user()
    _sweep(root)
    folder = Path(tempfile.mkdtemp(prefix="", dir=root))
    with (folder / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel releases it when this process ends, however it ends
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(root: Path) -> None:
    for lock in root.glob(f"*/{LOCK}"):
        with lock.open() as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # its run is alive
                continue
            shutil.rmtree(lock.parent, ignore_errors=True)
