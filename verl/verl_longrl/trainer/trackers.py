"""Let a resumed run continue its W&B run and its TensorBoard curves.

verl starts a new W&B run at each start, and writes TensorBoard events of repeated steps in addition to the first ones.
Both libraries read settings when verl opens them, which are set here. While a disk is full, points of curves are lost
and the run continues.
"""

import os
import secrets
from collections.abc import Collection
from pathlib import Path
from typing import Any

from verl.utils.tracking import Tracking

from verl_longrl.data.jsonl import is_disk_full
from verl_longrl.trainer.console_lines import print_line

WANDB_ID = "wandb_run_id"
"""The file in the run's folder that holds the id."""


def resume_at(step: int, output_dir: Path, trackers: Collection[str]) -> None:
    """Set the variables that W&B and TensorBoard read. Call it before verl creates its `Tracking`.

    step: the last one that counts; 0 for a new run. trackers: `trainer.logger`. Variables that the user has set
    (WANDB_RUN_ID, WANDB_RESUME, TENSORBOARD_DIR) win.
    """
    if "wandb" in trackers:
        os.environ.setdefault("WANDB_RUN_ID", _wandb_id(step, output_dir / WANDB_ID))
        # W&B skips steps that it already has, so a repeated step keeps its first values.
        os.environ.setdefault("WANDB_RESUME", "allow")
    if "tensorboard" in trackers:
        folder = os.environ.setdefault("TENSORBOARD_DIR", str(output_dir / "tensorboard"))
        from torch.utils.tensorboard import SummaryWriter

        try:
            # Readers then drop events that an earlier start wrote from that step on.
            SummaryWriter(folder, purge_step=step + 1).close()
        except OSError as error:
            _report_full_disk(error)


class LossyTracking(Tracking):
    """verl's trackers. On a full disk each loses the points that it would have written, with a line that says so."""

    def log(self, data: dict[str, Any], step: int, backend: Any = None) -> None:
        for name in [name for name in self.logger if backend is None or name in backend]:
            try:
                super().log(data=data, step=step, backend=[name])
            except OSError as error:
                _report_full_disk(error)


def _report_full_disk(error: OSError) -> None:
    """Print that points of curves are lost. Raises any error but that of a full disk."""
    if not is_disk_full(error):
        raise error
    print_line(f"trackers: {error}: points of curves are lost until the next start")


def _wandb_id(step: int, file: Path) -> str:
    if step == 0 or not file.is_file():
        file.write_text(secrets.token_hex(4))
    return file.read_text().strip()
