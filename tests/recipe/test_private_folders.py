"""Private folders on a machine that other users share."""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from recipe.longrl import private_folders


@pytest.fixture(autouse=True)
def tmp(tmp_path, monkeypatch):
    monkeypatch.setattr(private_folders, "LONGEST", 1000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_run_has_a_folder_that_nobody_else_can_look_into(tmp):
    before = os.umask(0)
    try:
        with private_folders.run_folder() as folder, private_folders.run_folder() as other:
            assert folder != other
            for made in (folder, folder.parent):
                assert stat.S_IMODE(made.stat().st_mode) == 0o700
            (folder / "socket").touch()
    finally:
        os.umask(before)
    assert not folder.exists()
    assert folder.parent == tmp / f"longrl-{os.getuid()}"


def test_a_folder_that_others_could_read_is_closed_to_them(tmp):
    (tmp / f"longrl-{os.getuid()}").mkdir(mode=0o755)
    assert stat.S_IMODE(private_folders.user_folder().stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "kind", ["a link to a folder", "a dangling link", "a file", "another user's folder", "open to all"]
)
def test_what_somebody_else_may_have_made_is_refused(tmp, monkeypatch, kind):
    name = tmp / f"longrl-{os.getuid()}"
    if kind == "another user's folder":
        somebody = os.getuid() + 1
        monkeypatch.setattr(os, "getuid", lambda: somebody)
        name = tmp / f"longrl-{somebody}"
        name.mkdir()
    elif kind == "a file":
        name.touch()
    elif kind == "open to all":
        name.mkdir()
        name.chmod(0o777)
    else:
        (tmp / "theirs").mkdir()
        name.symlink_to(tmp / ("theirs" if kind == "a link to a folder" else "absent"))
    with pytest.raises(private_folders.NotPrivate, match=f"{name}.*Fix: "):
        private_folders.user_folder()


KILLED = """
import os
from recipe.longrl import private_folders
private_folders.LONGEST = 1000
with private_folders.run_folder() as folder:
    print(folder, flush=True)
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_run_left_is_removed_and_a_living_ones_is_not(tmp):
    environment = {**os.environ, "TMPDIR": str(tmp)}
    killed = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, env=environment)
    left = Path(killed.stdout.strip())
    assert left.parent == private_folders.user_folder(), killed.stderr
    with private_folders.run_folder() as living, private_folders.run_folder():
        assert living.is_dir()
        assert not left.exists()


def test_rays_sockets_fit_below_it(tmp, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp / ("long" * 20)))
    with private_folders.run_folder() as folder:
        assert len(str(folder)) <= private_folders.LONGEST
