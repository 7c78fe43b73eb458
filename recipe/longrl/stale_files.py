"""Delete the incomplete files that killed starts of a run have left, before a new start writes anything.

They may be what fills the disk. The run's folder must be locked (`run_lock.py`).
"""

from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig
from verl_longrl.trainer import checkpoints
from verl_longrl.trainer.recorded_run import RUN_FILE

from recipe.longrl import export, run_identity


def remove_stale_files(config: DictConfig) -> Iterator[str]:
    """Delete incomplete checkpoints, exports and single files.

    Yields a line for each checkpoint, and one for files that may be the user's and are kept.
    """
    output_dir = Path(config.longrl.output_dir)
    yield from checkpoints.sweep(Path(config.trainer.default_local_dir))
    checkpoints.sweep_temporary_files(output_dir, run_identity.STORED, "metrics.jsonl", RUN_FILE)
    for path in (output_dir / "rollouts").glob("*/*.partial"):
        path.unlink()
    try:
        export.remove_leftovers(output_dir / "export")
    except checkpoints.CheckpointError as error:
        yield str(error)
