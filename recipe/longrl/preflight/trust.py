"""Nobody but the user can write what the run reads again: its folders, and the checkpoint that it continues from.

Whoever can, decides what is trained from there on. A folder above them that others can write in (/tmp, a project's) is
no matter: what others put in the place of ours is theirs, and seen to be.
"""

import grp
import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig

from recipe.longrl.preflight.check import Check

TRUST = "longrl.trust_folder=true"


def folders(config: DictConfig, dry_run: bool) -> Iterator[Check]:
    """A line if others can write the run's folders, or could write them if the run made them where it is told to."""
    if config.longrl.trust_folder:
        return
    for folder in dict.fromkeys(Path(path) for path in (config.longrl.output_dir, config.trainer.default_local_dir)):
        if folder.exists():
            problem = writable_by_others(folder)
        else:
            problem = None if dry_run else _when_made(next(p for p in folder.absolute().parents if p.exists()))
        if problem is not None:
            fix = f"`chmod go-w` it, name another, or, if you trust who can, {TRUST}"
            yield Check("run folder", "FAIL", f"{problem}, and so what the run continues from; {fix}")


def checkpoint(config: DictConfig, folder: Path) -> Iterator[Check]:
    """A line if others can write anything in the checkpoint that the run continues from."""
    if config.longrl.trust_folder:
        return
    problems = [problem for path in (folder, *folder.rglob("*")) if (problem := writable_by_others(path)) is not None]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        fix = f"`chmod -R go-w {folder}`, a copy of your own of what you have checked, or {TRUST}"
        yield Check("resume", "FAIL", f"{problems[0]}{more}, and it would be loaded; {fix}")


def writable_by_others(path: Path) -> str | None:
    """Who else can write a file or folder, in words; None if only this user and root can."""
    status = path.stat()
    if status.st_uid not in (os.geteuid(), 0):
        return f"{path} belongs to {_name(status.st_uid)}"
    if status.st_mode & 0o002:
        return f"everybody can write {path}"
    if status.st_mode & 0o020 and not _of_this_user_alone(status.st_gid):
        return f"the group {_group(status.st_gid)} can write {path}"
    return None


def _when_made(parent: Path) -> str | None:
    """The same of a folder that is made in `parent`: some file systems give all of them to everybody, or to nobody."""
    try:
        with tempfile.TemporaryDirectory(prefix=".preflight-", dir=parent) as made:
            os.chmod(made, 0o755)
            problem = writable_by_others(Path(made))
    except OSError:
        return None  # no room, or no permission, which other checks say
    return problem and f"of folders that are made in {parent}, this is true: {problem}"


def _of_this_user_alone(gid: int) -> bool:
    """Whether a group is the user's private one, which many systems make with each user."""
    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


def _name(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
