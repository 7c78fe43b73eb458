"""The run's folder: continues only the run that it holds, and has room for the checkpoints."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig
from verl_longrl.config import LongRLConfig
from verl_longrl.trainer.checkpoints import checkpoint_folders

from recipe.longrl import identity, memory
from recipe.longrl.preflight.check import Check


def checks(config: DictConfig) -> Iterator[Check]:
    """Whether this configuration may go on in the folder it names."""
    try:
        yield Check("run folder", "ok", identity.check(config))
    except identity.OtherRun as error:
        yield Check("run folder", "FAIL", str(error))


def disk(config: DictConfig, longrl: LongRLConfig, checkpoint_gib: float, dry_run: bool) -> Check:
    """Room for the checkpoints that are kept and the one being written, beyond those that are there already."""
    root = Path(config.trainer.default_local_dir).absolute()
    existing = next(p for p in (root, *root.parents) if p.exists())
    free = shutil.disk_usage(existing).free / memory.GIB
    keep = longrl.checkpoints_to_keep
    detail = f"a checkpoint takes {checkpoint_gib:.2f} GiB, {root} has {free:.0f} GiB free"
    wanted = checkpoint_gib * max(1, (keep or 1) + 1 - len(checkpoint_folders(root)))
    if free < wanted:
        detail = f"{detail}, {wanted:.0f} needed to keep {keep or 1} and write the next"
        return Check("disk", "warn" if dry_run else "FAIL", f"{detail}; free some, or set trainer.default_local_dir")
    if keep is None and config.trainer.save_freq > 0 and checkpoint_gib > 1:
        return Check("disk", "warn", f"{detail}; all are kept: longrl.checkpoints_to_keep=2 bounds it")
    return Check("disk", "ok", detail)
