"""Load checkpoints as weights and plain values only; refuse a pickle that calls anything else.

verl reads shards (also in its merger) and the data loader's state with `torch.load(weights_only=False)`, so whoever can
change a checkpoint can run code in every rank. torch has a variable that overrides the caller,
TORCH_FORCE_WEIGHTS_ONLY_LOAD. It is set only while a checkpoint is read, because verl sends pickled batches through
`torch.load` as well. `_allow` lists the types in FSDP's checkpoints that torch does not allow by default.

Megatron's own format is read by Megatron and torch.distributed.checkpoint, which unpickle it. There the only protection
is that nobody else can write the folder.
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
"""torch's own variables. If the user sets the second one, checkpoints are loaded as in verl."""


def restrict(on: bool) -> None:
    """Switch on or off that `torch.load` in this process loads weights only; never on against the user's setting."""
    if on and not _switched_off_by_user():
        _allow()
        os.environ[SWITCH] = "1"
    else:
        os.environ.pop(SWITCH, None)


@contextmanager
def restricted() -> Iterator[None]:
    """Within the context, `torch.load` in this process loads weights only."""
    restrict(True)
    try:
        yield
    finally:
        restrict(False)


def find_calls(folder: Path, names: Iterable[str]) -> list[str]:
    """A line for each of these files of `torch.save` that, when loaded, calls anything but constructors of tensors and
    plain values. Empty if the user has switched the check off."""
    if _switched_off_by_user():
        return []
    _allow()
    return [line for name in names if (line := _calls(folder / name)) is not None]


def refuse(lines: list[str]) -> None:
    """Raise CheckpointError if there are any lines of `find_calls`."""
    if lines:
        raise CheckpointError(
            "\n".join(lines) + "\nNo checkpoint of a run needs that: somebody changed the file, or it is not a "
            f"checkpoint of this program. It is not loaded. Fix: if you know why and trust it, set {OPPOSITE}=1"
        )


def _switched_off_by_user() -> bool:
    return os.environ.get(OPPOSITE, "0").lower() in ("1", "y", "yes", "true")


def _calls(path: Path) -> str | None:
    import torch

    if not zipfile.is_zipfile(path):
        # It was not written by torch.save, or in its old format, which torch checks itself.
        return None
    try:
        calls = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (ValueError, RuntimeError, pickle.UnpicklingError) as error:
        return f"{path} cannot be read as weights: {error}"
    return f"{path} calls {', '.join(sorted(calls))} to be loaded" if calls else None


def _allow() -> None:
    """Allow the types that checkpoints contain besides tensors: how they were sharded, and numpy's random state."""
    import numpy as np
    import torch

    # The import allows its own classes.
    import torch.distributed.tensor
    from numpy._core.multiarray import _reconstruct
    from torch.distributed.tensor.placement_types import _StridedShard

    random_state: list[Any] = [_reconstruct, np.ndarray, np.dtype, type(np.dtype(np.uint32))]
    torch.serialization.add_safe_globals([_StridedShard, *random_state])
    # The name in numpy before 2.0.
    torch.serialization.add_safe_globals([(_reconstruct, "numpy.core.multiarray._reconstruct")])
