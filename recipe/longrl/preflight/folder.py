"""The run's folder: continues only the run that it holds, nobody else can write in it, and an export may go there."""

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


def checks(config: DictConfig, dry_run: bool) -> Iterator[Check]:
    """Whether this configuration may resume in the folder it names, and can write there; and from which checkpoint."""
    for key in ("longrl.output_dir", "trainer.default_local_dir"):
        folder = existing(Path(OmegaConf.select(config, key)))
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            problem = "is no folder" if not folder.is_dir() else "cannot be written to"
            detail = f"{key} = {OmegaConf.select(config, key)}: {folder} {problem}; name another"
            yield Check("run folder", "warn" if dry_run else "FAIL", detail)
            return
    if owner := run_lock.other_holder([Path(config.longrl.output_dir), Path(config.trainer.default_local_dir)]):
        known = owner.lives()  # else a start waits for its heartbeat, and takes over where it is dead
        detail = f"{config.longrl.output_dir} {'is' if known else 'may be'} in use by {owner}. Fix: {run_lock.FIX}"
        yield Check("in use", "FAIL" if known and not dry_run else "warn", detail)
    try:
        yield Check("run folder", "ok", run_identity.check_folder(config))
    except run_identity.RunMismatch as error:
        yield Check("run folder", "FAIL", str(error))
    yield from write_access.checks(config, dry_run)
    yield from _resume(config)
    if (exported := export_of(config)) is not None and (other := export.find_conflict(exported)) is not None:
        yield Check("export", "FAIL", f"{other}, or set longrl.export=false")


def export_of(config: DictConfig) -> Path | None:
    """Where the run exports to, if it does."""
    return Path(config.longrl.output_dir) / "export" if config.longrl.export and config.trainer.save_freq > 0 else None


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
    if folder is not None and not config.longrl.trust_folder and (problem := checkpoint_problem(folder)) is not None:
        yield Check("resume", "FAIL", problem)


def _of_another_run(config: DictConfig, folder: Path | None) -> list[str]:
    """How the run that wrote the checkpoint, if it is another, was configured otherwise in what decides what is
    trained."""
    if folder is None or folder.parent.resolve() == Path(config.trainer.default_local_dir).resolve():
        return []
    stored = run_identity.find_stored_config(folder.parent)
    if stored is None:
        return [f"no {run_identity.STORED} beside it says how that run was configured, so not compared"]
    try:
        lines = run_identity.list_differences(stored, config)
    except run_identity.RunMismatch as error:
        return [str(error)]
    return [f"of a run with a different configuration ({stored}):", *lines[: run_identity.MOST_SHOWN]] if lines else []


def existing(path: Path) -> Path:
    """The path, or the nearest folder above that exists."""
    path = path.absolute()
    return next(p for p in (path, *path.parents) if p.exists())
