"""scripts/lib.sh: words are split like a command line, and folders that others may have prepared are rejected."""

import os
import subprocess
from pathlib import Path

import pytest

LIB = Path(__file__).resolve().parents[2] / "scripts" / "lib.sh"
SOMEBODY = 65534


def sourced(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = f"set -euo pipefail; source {LIB}; {command}"
    return subprocess.run(["bash", "-c", script, "bash", *arguments], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  a=1   b=2 ", ["a=1", "b=2"]),
        ("a=1\nb=2\n", ["a=1", "b=2"]),
        ("a=[x,y] b='x y' c=\"it's\"", ["a=[x,y]", "b=x y", "c=it's"]),
        ("a=x\\ y", ["a=x y"]),
        ("* $HOME $(id) `id` ; id & ~ #x !", ["*", "$HOME", "$(id)", "`id`", ";", "id", "&", "~", "#x", "!"]),
        ("-n -e", ["-n", "-e"]),
        ("''", [""]),
    ],
)
def test_words(text: str, expected: list[str]):
    done = sourced('words found "$1"; printf \'%s\\0\' "${#found[@]}" "${found[@]}"', text)
    assert done.returncode == 0, done.stderr
    count, *words = done.stdout.split("\0")[:-1]
    assert (int(count), words[: int(count)]) == (len(expected), expected)


def test_an_unclosed_quote_is_rejected():
    done = sourced('words found "$1"; echo on', "a='b")
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot be split into words like a command line: a='b" in done.stderr


def private(*folders: Path | str) -> subprocess.CompletedProcess[str]:
    return sourced('private "$@"', *map(str, folders))


def mode(folder: Path) -> int:
    return folder.stat().st_mode & 0o777


def test_a_folder_is_created_for_this_user_only(tmp_path: Path):
    above, folder = tmp_path / "a b", tmp_path / "a b" / "c"
    assert private(folder).returncode == 0
    assert (mode(above), mode(folder)) == (0o700, 0o700)
    above.chmod(0o755)
    folder.chmod(0o755)
    assert private(folder).returncode == 0, "once more, as a second job does"
    assert (mode(above), mode(folder)) == (0o755, 0o700)


def test_links_are_rejected(tmp_path: Path):
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "link").symlink_to(home)
    (tmp_path / "dangling").symlink_to(home / "new")
    for name in ("link", "link/", "link/.", "dangling"):
        done = private(f"{tmp_path}/{name}")
        assert done.returncode == 2, name
        assert "is a link. Fix: remove it, or use another folder" in done.stderr
    assert list(home.iterdir()) == []


def test_folders_of_other_users_are_rejected(tmp_path: Path):
    if os.getuid() == 0:  # else root is somebody else
        theirs = tmp_path / "theirs"
        theirs.mkdir()
        os.chown(theirs, SOMEBODY, SOMEBODY)
    else:
        theirs = Path("/usr")
    done = private(theirs)
    assert done.returncode == 2
    assert f"{theirs} belongs to " in done.stderr


@pytest.mark.parametrize("permissions", [0o777, 0o1777, 0o775, 0o702])
def test_folders_writable_by_others_are_rejected(tmp_path: Path, permissions: int):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(permissions)
    done = private(tmp_path / "open")
    assert done.returncode == 2
    assert "is writable by others" in done.stderr


def test_folders_that_others_can_replace_are_rejected(tmp_path: Path):
    """In a folder whose entries everybody can rename; in /tmp only their owners can."""
    above = tmp_path / "above"
    above.mkdir()
    above.chmod(0o1777)
    assert private(above / "fine").returncode == 0
    above.chmod(0o777)
    (tmp_path / "way").symlink_to(above)
    for folder in (above / "new", above / "fine", above / "fine" / "deeper", tmp_path / "way" / "fine"):
        done = private(folder)
        assert done.returncode == 2, folder
        assert f"can be replaced by others, who own {above} or can write in it" in done.stderr


def test_a_file_is_rejected(tmp_path: Path):
    (tmp_path / "file").touch()
    assert "is not a folder and cannot be created" in private(tmp_path / "file").stderr
