"""Check that nobody else can write to the run's folders, nor to those that it will create.

Who can write to them decides from which weights the run resumes (`verl_longrl.trainer.write_access`).
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig
from verl_longrl.trainer.write_access import writable_by_others

from recipe.longrl.preflight.check import Check


def check_write_access(config: DictConfig, dry_run: bool) -> Iterator[Check]:
    """A line for each folder to which others can write."""
    if config.longrl.trust_folder:
        return
    for folder in dict.fromkeys(Path(path) for path in (config.longrl.output_dir, config.trainer.default_local_dir)):
        if folder.exists():
            problem = writable_by_others(folder)
        else:
            problem = (
                None if dry_run else _problem_of_new_folders(next(p for p in folder.absolute().parents if p.exists()))
            )
        if problem is not None:
            fix = "`chmod go-w` it, choose another folder, or, if you trust these users, longrl.trust_folder=true"
            yield Check("run folder", "FAIL", f"{problem}, and so change what the run resumes from. Fix: {fix}")


def _problem_of_new_folders(parent: Path) -> str | None:
    """Why others could write to a folder that is created in `parent`: some network file systems give every folder to
    everybody."""
    try:
        with tempfile.TemporaryDirectory(prefix=".preflight-", dir=parent) as folder:
            os.chmod(folder, 0o755)
            problem = writable_by_others(Path(folder))
    except OSError:
        # No space or no permission, which other checks report.
        return None
    return problem and f"a folder that is created in {parent} has this problem: {problem}"
