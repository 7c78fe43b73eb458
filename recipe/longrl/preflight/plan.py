"""What the run will do: rows, steps, and how many checkpoints it writes and keeps. As verl's trainer counts them.

verl divides by the steps of an epoch, so too few rows end a run with a ZeroDivisionError; and it ends after
`total_epochs` whatever `total_training_steps` says, then without the last checkpoint and validation.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from omegaconf import DictConfig
from verl_longrl.config import LongRLConfig

from recipe.longrl.preflight.check import Check


@dataclass(frozen=True)
class Plan:
    """epoch: steps in one. steps: in all. written: checkpoints of the whole run. kept: of these at once, at the end."""

    rows: int
    epoch: int
    steps: int
    written: int
    kept: int


def of(config: DictConfig, longrl: LongRLConfig, rows: int) -> Plan:
    """The plan for `rows` training rows."""
    trainer, epoch = config.trainer, rows // config.data.train_batch_size
    steps = epoch * trainer.total_epochs
    if trainer.total_training_steps is not None:
        steps = min(steps, trainer.total_training_steps)
    written = -(-steps // trainer.save_freq) if trainer.save_freq > 0 else 0
    return Plan(rows, epoch, steps, written, min(written, longrl.checkpoints_to_keep or written))


def checks(config: DictConfig, longrl: LongRLConfig, rows: Mapping[str, int]) -> Iterator[Check]:
    """One line. rows: of each split that could be counted, after filtering."""
    if "train_files" not in rows:
        yield Check("plan", "warn", "steps are unknown: the training rows could not be counted")
        return
    plan, trainer, batch = of(config, longrl, rows["train_files"]), config.trainer, config.data.train_batch_size
    if not plan.epoch:
        detail = f"{plan.rows} training rows are fewer than a batch, data.train_batch_size = {batch}; give more rows"
        yield Check("plan", "FAIL", f"{detail}, or lower it (and actor_rollout_ref.actor.ppo_mini_batch_size with it)")
        return
    wanted = trainer.total_training_steps
    if wanted is not None and wanted > plan.steps:
        detail = f"trainer.total_training_steps = {wanted}, but {plan.epoch} steps an epoch ({plan.rows} rows) x "
        detail += (
            f"{trainer.total_epochs} epochs are {plan.steps}: the run would end there, without its last checkpoint"
        )
        yield Check("plan", "FAIL", f"{detail}; set trainer.total_epochs={-(-wanted // plan.epoch)}, or fewer steps")
        return
    detail = f"{plan.rows:,} rows / {batch} = {plan.epoch:,} steps an epoch, {plan.steps:,} in all"
    if "val_files" in rows:
        every = f", every {trainer.test_freq} steps" if trainer.test_freq > 0 else ", never during training"
        detail += f"; {rows['val_files']:,} held-out rows{every}"
    if not plan.written:
        detail += f"; trainer.save_freq = {trainer.save_freq}: no checkpoint is written, so the run cannot be resumed"
        yield Check("plan", "warn", f"{detail} and exports nothing")
        return
    kept = "all of them kept" if plan.kept == plan.written else f"the newest {plan.kept} kept"
    yield Check("plan", "ok", f"{detail}; {plan.written:,} checkpoints, {kept}")
