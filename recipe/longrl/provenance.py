"""With what a run was started: a line for each start in the run's folder, from which its model card is made."""

import subprocess
import time
from pathlib import Path
from typing import Any

from verl_longrl.data.jsonl import append_lines, drop_partial_line, encode_line, is_disk_full, read_jsonl

from recipe.longrl.preflight.environment import PINNED, installed

STARTS, TIME = "starts.jsonl", "%Y-%m-%dT%H:%M:%SZ"


def record(output_dir: Path, command: str) -> None:
    """Add this start: time (UTC), command, commit of the code (None: not known), versions of LongRL and packages."""
    versions = {name: version for name in ("longrl", *PINNED) if (version := installed(name)) is not None}
    time_now = time.strftime(TIME, time.gmtime())
    start = {"time": time_now, "command": command, "commit": commit(Path(__file__)), "versions": versions}
    output_dir.mkdir(parents=True, exist_ok=True)
    drop_partial_line(output_dir / STARTS)
    try:
        append_lines(output_dir / STARTS, encode_line(start))
    except OSError as error:
        if not is_disk_full(error):
            raise
        print(f"this start is not in {output_dir / STARTS}: {error.strerror}", flush=True)


def starts(output_dir: Path) -> list[dict[str, Any]]:
    """All starts of the run, oldest first; [] for a run from before they were recorded."""
    return read_jsonl(output_dir / STARTS, ("time", "command", "commit", "versions"))


def commit(file: Path) -> str | None:
    """The commit that `file` is of, marked if tracked files differ from it; None where git does not know the file."""
    if _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
        return None
    name, changed = _git(file.parent, "rev-parse", "HEAD"), _git(file.parent, "diff", "HEAD", "--name-only")
    return f"{name} with uncommitted changes" if name and changed else name


def _git(folder: Path, *arguments: str) -> str | None:
    """What git answers, or None where it cannot."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
