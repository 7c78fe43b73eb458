"""A resumed run goes on in the W&B run and the TensorBoard curves that it began.

Upstream starts a new W&B run at each start, and writes TensorBoard events of the steps that are done again beside those
of the first time. Both are steered by what their libraries look for when upstream opens them.
"""

import os
import secrets
from collections.abc import Collection
from pathlib import Path

WANDB_ID = "wandb_run_id"
"""File in the run's folder."""


def continue_at(step: int, output_dir: Path, trackers: Collection[str]) -> None:
    """Call before upstream's `Tracking` is made. step: the last one that counts; 0 is a new run.

    trackers: `trainer.logger`. Variables that the user has set (WANDB_RUN_ID, WANDB_RESUME, TENSORBOARD_DIR) win.
    """
    if "wandb" in trackers:
        os.environ.setdefault("WANDB_RUN_ID", _wandb_id(step, output_dir / WANDB_ID))
        os.environ.setdefault("WANDB_RESUME", "allow")  # steps done again are known to W&B, which passes them over
    if "tensorboard" in trackers:
        folder = os.environ.setdefault("TENSORBOARD_DIR", str(output_dir / "tensorboard"))
        from torch.utils.tensorboard import SummaryWriter

        SummaryWriter(folder, purge_step=step + 1).close()  # readers drop what an earlier start wrote from there on


def _wandb_id(step: int, file: Path) -> str:
    if step == 0 or not file.is_file():
        file.write_text(secrets.token_hex(4))
    return file.read_text().strip()
