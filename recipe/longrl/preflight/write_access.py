"""Nobody else can write in the run's folders, nor in those that it will make (`verl_longrl.trainer.write_access`)."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig
from verl_longrl.trainer.write_access import writable_by_others

from recipe.longrl.preflight.check import Check


def checks(config: DictConfig, dry_run: bool) -> Iterator[Check]:
    """A line for each folder that others can write."""
    if config.longrl.trust_folder:
        return
    for folder in dict.fromkeys(Path(path) for path in (config.longrl.output_dir, config.trainer.default_local_dir)):
        if folder.exists():
            problem = writable_by_others(folder)
        else:
            problem = None if dry_run else _when_made(next(p for p in folder.absolute().parents if p.exists()))
        if problem is not None:
            fix = "`chmod go-w` it, name another, or, if you trust who can, longrl.trust_folder=true"
            yield Check("run folder", "FAIL", f"{problem}, and so what the run continues from. Fix: {fix}")


def _when_made(parent: Path) -> str | None:
    """The same of a folder that is made in `parent`: some file systems give all of them to everybody, or to nobody."""
    try:
        with tempfile.TemporaryDirectory(prefix=".preflight-", dir=parent) as made:
            os.chmod(made, 0o755)
            problem = writable_by_others(Path(made))
    except OSError:
        return None  # no room, or no permission, which other checks say
    return problem and f"of folders that are made in {parent}, this is true: {problem}"
