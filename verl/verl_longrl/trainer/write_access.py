"""Check whether other users can write files that a run reads again.

Whoever can change a checkpoint decides what is trained from there on. A parent folder that others can write in (/tmp, a
project's folder) is harmless: files that others put there instead of ours belong to them, which is checked.
"""

import grp
import os
import pwd
from pathlib import Path


def allow_only_owner_to_write() -> None:
    """From now on, create files that only their owner can change."""
    # The mask can be read only by setting another one: the inner call returns it, and the outer one sets it with two
    # more bits.
    os.umask(os.umask(0o022) | 0o022)


def writable_by_others(path: Path) -> str | None:
    """Say who else can write a file or folder; None if only this user and root can."""
    status = path.stat()
    if status.st_uid not in (os.geteuid(), 0):
        return f"{path} belongs to {_user(status.st_uid)}"
    if status.st_mode & 0o002:
        return f"everybody can write {path}"
    if status.st_mode & 0o020 and not _of_this_user_alone(status.st_gid):
        return f"the group {_group(status.st_gid)} can write {path}"
    return None


def checkpoint_problem(folder: Path) -> str | None:
    """`writable_by_others` of a checkpoint and all files in it, with the fix."""
    problems = [problem for path in (folder, *folder.rglob("*")) if (problem := writable_by_others(path)) is not None]
    if not problems:
        return None
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return (
        f"{problems[0]}{more}, and it would be loaded. Fix: run `chmod -R go-w {folder}`, or make your own copy of "
        "files that you have checked, or, if you trust those users, set longrl.trust_folder=true"
    )


def _of_this_user_alone(gid: int) -> bool:
    """Whether a group is the user's private group, which many systems create for each user."""
    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
