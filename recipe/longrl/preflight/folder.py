"""Check the run's folder: it is writable, holds no other run, and its checkpoint can be resumed."""

import os
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from verl_longrl.trainer.checkpoints import CheckpointError, to_resume_from
from verl_longrl.trainer.write_access import checkpoint_problem

from recipe.longrl import export, run_identity, run_lock
from recipe.longrl.parallelism import n_gpus
from recipe.longrl.preflight import write_access
from recipe.longrl.preflight.check import Check


def check_run_folder(config: DictConfig, dry_run: bool) -> Iterator[Check]:
    """Lines for the folder, a run that uses it, the checkpoint to resume from, and files in the way of the export."""
    for key in ("longrl.output_dir", "trainer.default_local_dir"):
        folder = existing_parent(Path(OmegaConf.select(config, key)))
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            problem = "is not a folder" if not folder.is_dir() else "is not writable"
            detail = f"{key} = {OmegaConf.select(config, key)}: {folder} {problem}. Fix: choose another"
            yield Check("run folder", "warn" if dry_run else "FAIL", detail)
            return
    if owner := run_lock.other_holder([Path(config.longrl.output_dir), Path(config.trainer.default_local_dir)]):
        # A start waits for the heartbeat of an owner that may live, and takes over if the owner is dead.
        alive = owner.lives()
        detail = f"{config.longrl.output_dir} {'is' if alive else 'may be'} in use by {owner}. Fix: {run_lock.FIX}"
        yield Check("in use", "FAIL" if alive and not dry_run else "warn", detail)
    try:
        yield Check("run folder", "ok", run_identity.check_folder(config))
    except run_identity.RunMismatch as error:
        yield Check("run folder", "FAIL", str(error))
    yield from write_access.check_write_access(config, dry_run)
    yield from _check_resume(config)
    if (target := export_folder(config)) is not None and (conflict := export.find_conflict(target)) is not None:
        yield Check("export", "FAIL", f"{conflict}, or set longrl.export=false")


def export_folder(config: DictConfig) -> Path | None:
    """The folder to which the run exports the model; None if it does not."""
    return Path(config.longrl.output_dir) / "export" if config.longrl.export and config.trainer.save_freq > 0 else None


def _check_resume(config: DictConfig) -> Iterator[Check]:
    """The checkpoint that the trainer will resume from, as it chooses it; no line for a new run."""
    trainer = config.trainer
    try:
        folder, skipped = to_resume_from(
            trainer.resume_mode, Path(trainer.default_local_dir), trainer.resume_from_path, n_gpus(config)
        )
    except CheckpointError as error:
        yield Check("resume", "FAIL", str(error))
        return
    warnings = [*skipped, *_compare_with_its_run(config, folder)]
    if folder is not None or warnings:
        start = f"from {folder}" if folder is not None else "at step 0: no checkpoint is complete"
        yield Check("resume", "warn" if warnings else "ok", "\n".join([start, *warnings]))
    if folder is not None and not config.longrl.trust_folder and (problem := checkpoint_problem(folder)) is not None:
        yield Check("resume", "FAIL", problem)


def _compare_with_its_run(config: DictConfig, folder: Path | None) -> list[str]:
    """The differences that decide about training between this configuration and that of the run which wrote the
    checkpoint, if it is another run."""
    if folder is None or folder.parent.resolve() == Path(config.trainer.default_local_dir).resolve():
        return []
    stored = run_identity.find_stored_config(folder.parent)
    if stored is None:
        return [f"its configuration is not compared: there is no {run_identity.STORED} next to it"]
    try:
        lines = run_identity.list_differences(stored, config)
    except run_identity.RunMismatch as error:
        return [str(error)]
    return [f"of a run with a different configuration ({stored}):", *lines[: run_identity.MOST_SHOWN]] if lines else []


def existing_parent(path: Path) -> Path:
    """The path, or its nearest parent that exists."""
    path = path.absolute()
    return next(p for p in (path, *path.parents) if p.exists())
