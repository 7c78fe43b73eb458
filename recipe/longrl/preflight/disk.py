"""Check that there is disk space for the checkpoints that are kept, the one being written, and the export."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig
from verl_longrl.config import LongRLConfig
from verl_longrl.trainer.checkpoints import INCOMPLETE, checkpoint_folders, find_damage, step_of

from recipe.longrl import export, memory
from recipe.longrl.preflight.check import Check
from recipe.longrl.preflight.folder import existing_parent, export_folder
from recipe.longrl.preflight.plan import TrainingPlan


@dataclass(frozen=True)
class DiskNeed:
    """contents: of the folder at the end of the run, in words. gib: space that is still needed. why: for what."""

    folder: Path
    contents: str
    gib: float
    why: str


def check_disk(
    config: DictConfig, longrl: LongRLConfig, sizes: memory.Sizes, dry_run: bool, plan: TrainingPlan | None = None
) -> Iterator[Check]:
    """A line for each file system. plan: None where the rows are unknown."""
    needs = [_need_of_checkpoints(config, longrl, sizes.checkpoint, plan)]
    if (target := export_folder(config)) is not None:
        # bfloat16 has 2 bytes.
        gib = sizes.parameters * 2 / memory.GIB
        exported = not needs[0].gib and export.is_up_to_date(needs[0].folder, target)
        needs.append(DiskNeed(target.absolute(), f"an export {gib:.2f} GiB", 0.0 if exported else gib, "to export"))
        if _device(needs[0].folder) == _device(needs[1].folder):
            first, second = needs
            why = f"{first.why}, and {second.why}" if first.gib else second.why
            contents = f"{first.contents}, {second.contents}"
            needs = [DiskNeed(first.folder, contents, first.gib + second.gib, why)]
    unbounded = longrl.checkpoints_to_keep is None and plan is None and config.trainer.save_freq > 0
    for need in needs:
        free = shutil.disk_usage(existing_parent(need.folder)).free / memory.GIB
        detail = f"{need.contents}; {need.folder} has {free:.0f} GiB free"
        if free < need.gib:
            fix = "free some space, set trainer.default_local_dir, or lower longrl.checkpoints_to_keep"
            yield Check(
                "disk", "warn" if dry_run else "FAIL", f"{detail}, {need.gib:.0f} needed {need.why}. Fix: {fix}"
            )
        elif unbounded and need is needs[0] and sizes.checkpoint > 1:
            yield Check("disk", "warn", f"{detail}; all checkpoints are kept. Fix: longrl.checkpoints_to_keep=2")
        else:
            yield Check("disk", "ok", detail)


def _need_of_checkpoints(config: DictConfig, longrl: LongRLConfig, each: float, plan: TrainingPlan | None) -> DiskNeed:
    """each: GiB of one checkpoint."""
    root = Path(config.trainer.default_local_dir).absolute()
    keep = longrl.checkpoints_to_keep or 1
    # The oldest is deleted only when the new one is complete.
    contents, at_once = f"a checkpoint takes {each:.2f} GiB", keep + 1
    folders = checkpoint_folders(root)
    complete = [folder for folder in folders if find_damage(folder) is None]
    if plan is not None:
        keep, at_once = plan.kept, min(plan.written, plan.kept + 1)
        contents += f", the {plan.kept} of {plan.written} that are kept {each * plan.kept:.2f} GiB"
        if not plan.written or (complete and step_of(complete[-1]) >= plan.steps):
            return DiskNeed(root, contents, 0.0, "")
    # The start of the run deletes checkpoints whose writing was interrupted.
    incomplete = [folder for folder in folders if folder not in complete and (folder / INCOMPLETE).exists()]
    freed = sum(file.stat().st_size for folder in incomplete for file in folder.rglob("*") if file.is_file())
    gib = each * max(1, at_once - len(complete)) - freed / memory.GIB
    return DiskNeed(root, contents, max(0.0, gib), f"to keep {keep} and write the next")


def _device(folder: Path) -> int:
    return existing_parent(folder).stat().st_dev
