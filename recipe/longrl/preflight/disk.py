"""Room for the checkpoints that are kept, the one being written and the export, beyond what is there already."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig
from verl_longrl.config import LongRLConfig
from verl_longrl.trainer.checkpoints import INCOMPLETE, checkpoint_folders, find_damage, step_of

from recipe.longrl import export, memory
from recipe.longrl.preflight.check import Check
from recipe.longrl.preflight.folder import existing, export_of
from recipe.longrl.preflight.plan import Plan


@dataclass(frozen=True)
class Need:
    """takes: what lies in the folder at the end, in words. gib: still to be had. why: what for."""

    folder: Path
    takes: str
    gib: float
    why: str


def checks(
    config: DictConfig, longrl: LongRLConfig, sizes: memory.Sizes, dry_run: bool, plan: Plan | None = None
) -> Iterator[Check]:
    """A line for each file system. plan: how many checkpoints those are; None where the rows are unknown."""
    needs = [_checkpoints(config, longrl, sizes.checkpoint, plan)]
    if (target := export_of(config)) is not None:
        gib = sizes.parameters * 2 / memory.GIB  # in bfloat16
        there = not needs[0].gib and export.is_up_to_date(needs[0].folder, target)
        needs.append(Need(target.absolute(), f"an export {gib:.2f} GiB", 0.0 if there else gib, "to export"))
        if _device(needs[0].folder) == _device(needs[1].folder):
            first, second = needs
            takes, why = f"{first.takes}, {second.takes}", f"{first.why}, and {second.why}" if first.gib else second.why
            needs = [Need(first.folder, takes, first.gib + second.gib, why)]
    unbounded = longrl.checkpoints_to_keep is None and plan is None and config.trainer.save_freq > 0
    for need in needs:
        free = shutil.disk_usage(existing(need.folder)).free / memory.GIB
        detail = f"{need.takes}; {need.folder} has {free:.0f} GiB free"
        if free < need.gib:
            fix = "free some, set trainer.default_local_dir, or keep fewer with longrl.checkpoints_to_keep"
            yield Check("disk", "warn" if dry_run else "FAIL", f"{detail}, {need.gib:.0f} needed {need.why}; {fix}")
        elif unbounded and need is needs[0] and sizes.checkpoint > 1:
            yield Check("disk", "warn", f"{detail}; all are kept: longrl.checkpoints_to_keep=2 bounds it")
        else:
            yield Check("disk", "ok", detail)


def _checkpoints(config: DictConfig, longrl: LongRLConfig, each: float, plan: Plan | None) -> Need:
    """each: GiB of one."""
    root = Path(config.trainer.default_local_dir).absolute()
    keep = longrl.checkpoints_to_keep or 1
    takes, at_once = f"a checkpoint takes {each:.2f} GiB", keep + 1  # the oldest goes when the new one is whole
    folders = checkpoint_folders(root)
    whole = [folder for folder in folders if find_damage(folder) is None]
    if plan is not None:
        keep, at_once = plan.kept, min(plan.written, plan.kept + 1)
        takes += f", the {plan.kept} of {plan.written} that are kept {each * plan.kept:.2f} GiB"
        if not plan.written or (whole and step_of(whole[-1]) >= plan.steps):
            return Need(root, takes, 0.0, "")
    half_written = [folder for folder in folders if folder not in whole and (folder / INCOMPLETE).exists()]
    swept = sum(file.stat().st_size for folder in half_written for file in folder.rglob("*") if file.is_file())
    gib = each * max(1, at_once - len(whole)) - swept / memory.GIB
    return Need(root, takes, max(0.0, gib), f"to keep {keep} and write the next")


def _device(folder: Path) -> int:
    return existing(folder).stat().st_dev
