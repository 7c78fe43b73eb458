"""Checkpoints are read as weights and plain values: a pickle that calls anything else is refused, not run.

verl reads shards (also in its merger) and the data's state with `torch.load(weights_only=False)`, so whoever can
change a checkpoint runs code in every rank. torch has a switch above the caller's word, TORCH_FORCE_WEIGHTS_ONLY_LOAD.
It is set only while a checkpoint is read, for verl sends pickled batches through `torch.load`, too. What
checkpoints of FSDP hold beside what torch allows itself is in `_allow`.

Megatron's own format is read by Megatron and torch.distributed.checkpoint, which unpickle: there, only the folder's
owner protects.
"""

import os
import pickle
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from verl_longrl.trainer.checkpoints import CheckpointError

SWITCH, OPPOSITE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
"""torch's own variables. A user who sets the second has checkpoints loaded as verl does it."""


def restrict(on: bool) -> None:
    """From now on, or no longer, `torch.load` in this process reads weights alone; unless the user does not want it."""
    if on and not _unwanted():
        _allow()
        os.environ[SWITCH] = "1"
    else:
        os.environ.pop(SWITCH, None)


@contextmanager
def restricted() -> Iterator[None]:
    """`restrict`, while it lasts."""
    restrict(True)
    try:
        yield
    finally:
        restrict(False)


def calling(folder: Path, names: Iterable[str]) -> list[str]:
    """A line for each of these files of `torch.save` that calls something, beside making tensors and plain values, when
    it is loaded; none where the user wants it so."""
    if _unwanted():
        return []
    _allow()
    return [line for name in names if (line := _calls(folder / name)) is not None]


def refuse(lines: list[str]) -> None:
    """Raise CheckpointError if there are any lines of `calling`."""
    if lines:
        raise CheckpointError(
            "\n".join(lines) + "\nNo checkpoint of a run needs that: somebody changed the file, or it is not a "
            f"checkpoint of this program. It is not loaded. If you know why, and trust it: {OPPOSITE}=1"
        )


def _unwanted() -> bool:
    return os.environ.get(OPPOSITE, "0").lower() in ("1", "y", "yes", "true")


def _calls(path: Path) -> str | None:
    import torch

    if not zipfile.is_zipfile(path):
        return None  # not of torch.save, or of its early form, of which torch itself says what it finds
    try:
        calls = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (ValueError, RuntimeError, pickle.UnpicklingError) as error:
        return f"{path} cannot be read as weights: {error}"
    return f"{path} calls {', '.join(sorted(calls))} to be loaded" if calls else None


def _allow() -> None:
    """Tell torch what checkpoints hold beside tensors: how they were sharded, and numpy's random state."""
    import numpy as np
    import torch
    import torch.distributed.tensor  # which allows its own classes
    from numpy._core.multiarray import _reconstruct
    from torch.distributed.tensor.placement_types import _StridedShard

    random_state: list[Any] = [_reconstruct, np.ndarray, np.dtype, type(np.dtype(np.uint32))]
    torch.serialization.add_safe_globals([_StridedShard, *random_state])
    torch.serialization.add_safe_globals([(_reconstruct, "numpy.core.multiarray._reconstruct")])  # its name before 2.0
