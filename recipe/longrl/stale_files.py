"""What killed starts of a run have left half-written is deleted when it starts again, before anything else is written:
it may be what fills the disk. Only one start at a time may use a run's folder.
"""

from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig
from verl_longrl.trainer import checkpoints

from recipe.longrl import export, run_identity


def sweep(config: DictConfig) -> Iterator[str]:
    """Delete checkpoints, an export and single files that were being written. A line for each checkpoint, and for what
    cannot be told from the user's own."""
    output_dir = Path(config.longrl.output_dir)
    yield from checkpoints.sweep(Path(config.trainer.default_local_dir))
    checkpoints.sweep_asides(output_dir, run_identity.STORED, "metrics.jsonl")
    for path in (output_dir / "rollouts").glob("*.partial"):
        path.unlink()
    try:
        export.sweep(output_dir / "export")
    except checkpoints.CheckpointError as error:
        yield str(error)
