"""Record each start of a run: time, command, commit and versions, which the model card lists."""

import subprocess
import time
from pathlib import Path
from typing import Any

from verl_longrl.data.jsonl import append_lines, drop_partial_line, encode_line, is_disk_full, read_jsonl

from recipe.longrl.versions import PINNED, installed_version

STARTS, TIME = "starts.jsonl", "%Y-%m-%dT%H:%M:%SZ"


def record_start(output_dir: Path, command: str) -> dict[str, Any]:
    """Append this start, and return it: time (UTC), command, commit of the code (None if unknown), versions of LongRL
    and packages."""
    versions = {name: version for name in ("longrl", *PINNED) if (version := installed_version(name)) is not None}
    time_now = time.strftime(TIME, time.gmtime())
    start = {"time": time_now, "command": command, "commit": describe_commit(Path(__file__)), "versions": versions}
    output_dir.mkdir(parents=True, exist_ok=True)
    drop_partial_line(output_dir / STARTS)
    try:
        append_lines(output_dir / STARTS, encode_line(start))
    except OSError as error:
        if not is_disk_full(error):
            raise
        print(f"this start is not recorded in {output_dir / STARTS}: {error.strerror}", flush=True)
    return start


def read_starts(output_dir: Path) -> list[dict[str, Any]]:
    """All starts of the run, oldest first; [] if its version of LongRL did not record them."""
    return read_jsonl(output_dir / STARTS, ("time", "command", "commit", "versions"))


def describe_commit(file: Path) -> str | None:
    """The commit of `file`, with a note if tracked files have changed; None where git does not track the file."""
    if _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
        return None
    name, changed = _git(file.parent, "rev-parse", "HEAD"), _git(file.parent, "diff", "HEAD", "--name-only")
    return f"{name} with uncommitted changes" if name and changed else name


def _git(folder: Path, *arguments: str) -> str | None:
    """The output of git, or None if it fails."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
