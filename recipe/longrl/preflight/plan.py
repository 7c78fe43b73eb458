"""Count the rows, steps and checkpoints of the run as verl's trainer will, and refuse what it cannot do.

verl divides by the steps of an epoch, so too few rows end a run with a ZeroDivisionError. It also ends after
`total_epochs` even if `total_training_steps` is larger, and then skips the last checkpoint and validation.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from omegaconf import DictConfig
from verl_longrl.config import LongRLConfig

from recipe.longrl.preflight.check import Check


@dataclass(frozen=True)
class TrainingPlan:
    """epoch: steps of one epoch. steps: of the run. written: checkpoints of the run. kept: those that remain at its
    end."""

    rows: int
    epoch: int
    steps: int
    written: int
    kept: int


def make_plan(config: DictConfig, longrl: LongRLConfig, rows: int) -> TrainingPlan:
    """The plan for `rows` training rows."""
    trainer, epoch = config.trainer, rows // config.data.train_batch_size
    steps = epoch * trainer.total_epochs
    if trainer.total_training_steps is not None:
        steps = min(steps, trainer.total_training_steps)
    written = -(-steps // trainer.save_freq) if trainer.save_freq > 0 else 0
    return TrainingPlan(rows, epoch, steps, written, min(written, longrl.checkpoints_to_keep or written))


def check_plan(config: DictConfig, longrl: LongRLConfig, rows: Mapping[str, int]) -> Iterator[Check]:
    """One line. rows: split -> its rows after filtering, for each split that could be counted."""
    if "train_files" not in rows:
        yield Check("plan", "warn", "steps are unknown: the training rows could not be counted")
        return
    plan, trainer, batch = make_plan(config, longrl, rows["train_files"]), config.trainer, config.data.train_batch_size
    if not plan.epoch:
        fix = "add rows, or lower it (and actor_rollout_ref.actor.ppo_mini_batch_size with it)"
        detail = f"data.train_batch_size = {batch}: only {plan.rows} training rows, fewer than one batch"
        yield Check("plan", "FAIL", f"{detail}. Fix: {fix}")
        return
    steps = trainer.total_training_steps
    if steps is not None and steps > plan.steps:
        detail = (
            f"trainer.total_training_steps = {steps}: {trainer.total_epochs} epochs of {plan.epoch} steps "
            f"({plan.rows} rows) have only {plan.steps}, and the run would end there without its last checkpoint"
        )
        fix = f"trainer.total_epochs={-(-steps // plan.epoch)}, or fewer steps"
        yield Check("plan", "FAIL", f"{detail}. Fix: {fix}")
        return
    detail = f"{plan.rows:,} rows / {batch} = {plan.epoch:,} steps per epoch, {plan.steps:,} in total"
    if "val_files" in rows:
        every = f", every {trainer.test_freq} steps" if trainer.test_freq > 0 else ", never during training"
        detail += f"; {rows['val_files']:,} held-out rows{every}"
    if not plan.written:
        detail += f"; trainer.save_freq = {trainer.save_freq}: the run writes no checkpoints, so it cannot be resumed"
        yield Check("plan", "warn", f"{detail} and exports nothing")
        return
    kept = "all of them kept" if plan.kept == plan.written else f"the newest {plan.kept} kept"
    yield Check("plan", "ok", f"{detail}; {plan.written:,} checkpoints, {kept}")
