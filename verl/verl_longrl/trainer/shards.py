"""A checkpoint's files, dealt to the trainer ranks: each one's own, the others so that all have as many bytes.

A rank waits until the disk holds what it wrote, and looks at its files before it reads them: on its own node, whose
memory has them then, and all ranks at a time.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from verl_longrl.trainer import checksums, safe_loading
from verl_longrl.trainer.checkpoints import CheckpointError, manifest_of

_OF_RANK = re.compile(r"(?:_rank_|/__)([0-9]+)[_.]")
"""model_world_size_8_rank_3.pt of FSDP, __3_1.distcp of Megatron."""

Workers = Sequence[Any]
"""Handles of the ranks' actors, in the order of the ranks."""


def in_ranks(workers: Workers, function: Callable[..., Any], each: Sequence[tuple[Any, ...]]) -> list[Any]:
    """function(*arguments) in every rank's process, all at once; the results. each: a rank's arguments."""
    calls = [worker.__ray_call__.remote(_call, function, given) for worker, given in zip(workers, each, strict=True)]
    return list(ray.get(calls))


def _call(actor: object, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return function(*arguments)


def dealt(files: Mapping[str, int], ranks: int) -> list[list[str]]:
    """The names of each rank's share. files: name -> bytes."""
    shares: list[list[str]] = [[] for _ in range(ranks)]
    held, others = [0] * ranks, []
    for name, size in sorted(files.items(), key=lambda item: -item[1]):
        owner = _OF_RANK.search(name)
        if owner is None or int(owner[1]) >= ranks:
            others.append(name)
        else:
            shares[int(owner[1])].append(name)
            held[int(owner[1])] += size
    for name in others:
        least = held.index(min(held))
        shares[least].append(name)
        held[least] += files[name]
    return shares


def write_through(folder: Path, workers: Workers) -> dict[str, checksums.Written]:
    """Wait until the disk holds all files in folders of the checkpoint in `folder`, which ranks have written."""
    files = {str(path.relative_to(folder)): path.stat().st_size for path in folder.glob("*/**/*") if path.is_file()}
    each = [(folder, share) for share in dealt(files, len(workers))]
    written = in_ranks(workers, checksums.write_through, each)
    return {name: file for share in written for name, file in share.items()}


def damaged(folder: Path, workers: Workers, weights: Callable[[str], bool]) -> list[str]:
    """A line for each file whose content is not what was written, of the checkpoint in `folder`, of which all files
    are there. weights: whether a file, by its name, is loaded as weights alone. Raises CheckpointError when one of
    these calls something to be loaded, and when they cannot be read for now."""
    manifest = manifest_of(folder)
    expected = manifest.checkable()
    shares = dealt({name: manifest.files[name] for name in expected}, len(workers))
    try:
        lines = in_ranks(workers, checksums.damaged, [(folder, {n: expected[n] for n in share}) for share in shares])
    except OSError as error:  # Ray's, which is of the class of its cause as well
        raise CheckpointError(f"{folder} cannot be read: {getattr(error, 'cause', error)}") from error
    if not (found := [line for share in lines for line in share]):
        each = [(folder, [name for name in share if weights(name)]) for share in shares]
        calling = in_ranks(workers, safe_loading.calling, each)
        safe_loading.refuse([line for share in calling for line in share])
    return found


@contextmanager
def reading_weights_alone(workers: Workers) -> Iterator[None]:
    """While it lasts, `torch.load` here and in these ranks reads weights alone (`safe_loading`)."""
    in_ranks(workers, safe_loading.restrict, [(True,)] * len(workers))
    try:
        with safe_loading.restricted():
            yield
    finally:
        in_ranks(workers, safe_loading.restrict, [(False,)] * len(workers))
