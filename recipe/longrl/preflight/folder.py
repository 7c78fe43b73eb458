"""The run's folder: continues only the run that it holds, and has room for the checkpoints."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from verl_longrl.config import LongRLConfig
from verl_longrl.trainer.checkpoints import CheckpointError, checkpoint_folders, to_resume_from

from recipe.longrl import identity, memory
from recipe.longrl.parallel import n_gpus
from recipe.longrl.preflight.check import Check
from recipe.longrl.preflight.plan import Plan


def checks(config: DictConfig, dry_run: bool) -> Iterator[Check]:
    """Whether this configuration may resume in the folder it names, and can write there; and from which checkpoint."""
    for key in ("longrl.output_dir", "trainer.default_local_dir"):
        folder = _existing(Path(OmegaConf.select(config, key)))
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            problem = "is no folder" if not folder.is_dir() else "cannot be written to"
            detail = f"{key} = {OmegaConf.select(config, key)}: {folder} {problem}; name another"
            yield Check("run folder", "warn" if dry_run else "FAIL", detail)
            return
    try:
        yield Check("run folder", "ok", identity.check(config))
    except identity.OtherRun as error:
        yield Check("run folder", "FAIL", str(error))
    yield from _resume(config)


def _resume(config: DictConfig) -> Iterator[Check]:
    """What the trainer will find when it looks for its checkpoint; nothing for a new run."""
    trainer = config.trainer
    try:
        folder, passed_over = to_resume_from(
            trainer.resume_mode, Path(trainer.default_local_dir), trainer.resume_from_path, n_gpus(config)
        )
    except CheckpointError as error:
        yield Check("resume", "FAIL", str(error))
        return
    warnings = [*passed_over, *_of_another_run(config, folder)]
    if folder is not None or warnings:
        begins = f"from {folder}" if folder is not None else "at step 0: no checkpoint is whole"
        yield Check("resume", "warn" if warnings else "ok", "\n".join([begins, *warnings]))


def _of_another_run(config: DictConfig, folder: Path | None) -> list[str]:
    """How the run that wrote the checkpoint, if it is another, was configured otherwise in what decides what is
    trained."""
    if folder is None or folder.parent.resolve() == Path(config.trainer.default_local_dir).resolve():
        return []
    stored = identity.stored_beside(folder.parent)
    if stored is None:
        return [f"no {identity.STORED} beside it says how that run was configured, so not compared"]
    lines = identity.differences(stored, config)
    return [f"of a run with another configuration ({stored}):", *lines[: identity.MOST_SHOWN]] if lines else []


def disk(
    config: DictConfig, longrl: LongRLConfig, checkpoint_gib: float, dry_run: bool, plan: Plan | None = None
) -> Check:
    """Room for the checkpoints that are kept and the one being written, beyond those that are there already. plan: how
    many those are; None where the rows are unknown."""
    root = Path(config.trainer.default_local_dir).absolute()
    free = shutil.disk_usage(_existing(root)).free / memory.GIB
    keep = longrl.checkpoints_to_keep or 1
    detail = f"a checkpoint takes {checkpoint_gib:.2f} GiB"
    at_once = keep + 1  # the oldest goes when the new one is whole
    if plan is not None:
        keep, at_once = plan.kept, min(plan.written, plan.kept + 1)
        detail += f", the {plan.kept} of {plan.written} that are kept {checkpoint_gib * plan.kept:.2f} GiB"
    wanted = checkpoint_gib * max(1, at_once - len(checkpoint_folders(root)))
    detail += f"; {root} has {free:.0f} GiB free"
    if free < wanted:
        detail = f"{detail}, {wanted:.0f} needed to keep {keep} and write the next"
        fix = "free some, set trainer.default_local_dir, or keep fewer with longrl.checkpoints_to_keep"
        return Check("disk", "warn" if dry_run else "FAIL", f"{detail}; {fix}")
    if longrl.checkpoints_to_keep is None and plan is None and config.trainer.save_freq > 0 and checkpoint_gib > 1:
        return Check("disk", "warn", f"{detail}; all are kept: longrl.checkpoints_to_keep=2 bounds it")
    return Check("disk", "ok", detail)


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above that exists."""
    path = path.absolute()
    return next(p for p in (path, *path.parents) if p.exists())
