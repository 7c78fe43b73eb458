"""A resumed run goes on in the W&B run and the TensorBoard curves that it began.

verl starts a new W&B run at each start, and writes TensorBoard events of the steps that are done again beside those
of the first time. Both are steered by what their libraries look for when verl opens them. What a full disk refuses
of them is lost, and the run goes on.
"""

import os
import secrets
from collections.abc import Collection
from pathlib import Path
from typing import Any

from verl.utils.tracking import Tracking

from verl_longrl.data.jsonl import is_disk_full
from verl_longrl.trainer.console_lines import progress

WANDB_ID = "wandb_run_id"
"""File in the run's folder."""


def continue_at(step: int, output_dir: Path, trackers: Collection[str]) -> None:
    """Call before verl's `Tracking` is made. step: the last one that counts; 0 is a new run.

    trackers: `trainer.logger`. Variables that the user has set (WANDB_RUN_ID, WANDB_RESUME, TENSORBOARD_DIR) win.
    """
    if "wandb" in trackers:
        os.environ.setdefault("WANDB_RUN_ID", _wandb_id(step, output_dir / WANDB_ID))
        os.environ.setdefault("WANDB_RESUME", "allow")  # steps done again are known to W&B, which passes them over
    if "tensorboard" in trackers:
        folder = os.environ.setdefault("TENSORBOARD_DIR", str(output_dir / "tensorboard"))
        from torch.utils.tensorboard import SummaryWriter

        try:
            SummaryWriter(folder, purge_step=step + 1).close()  # readers drop what an earlier start wrote from there on
        except OSError as error:
            _pass_over(error)


class LossyTracking(Tracking):
    """verl's trackers, each of which a full disk costs what it would have written, and a line."""

    def log(self, data: dict[str, Any], step: int, backend: Any = None) -> None:
        for name in [name for name in self.logger if backend is None or name in backend]:
            try:
                super().log(data=data, step=step, backend=[name])
            except OSError as error:
                _pass_over(error)


def _pass_over(error: OSError) -> None:
    """Say that points of curves are lost, or raise the error where that is not for a full disk."""
    if not is_disk_full(error):
        raise error
    progress(f"trackers: {error}: points of curves are lost until the next start")


def _wandb_id(step: int, file: Path) -> str:
    if step == 0 or not file.is_file():
        file.write_text(secrets.token_hex(4))
    return file.read_text().strip()
