"""Let the trainer ranks sync and check a checkpoint's files in parallel.

Each rank gets the files that it wrote; the others are assigned so that all ranks have about the same number of bytes. A
rank checks its files before it loads them, so its node reads them from the disk only once.
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
    """Call function(*arguments) in all ranks in parallel. each: the arguments for each rank. Returns the results."""
    calls = []
    for worker, arguments in zip(workers, each, strict=True):
        calls.append(worker.__ray_call__.remote(_call, function, arguments))
    return list(ray.get(calls))


def _call(actor: object, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return function(*arguments)


def assign_files(files: Mapping[str, int], ranks: int) -> list[list[str]]:
    """The names of the files of each rank. files: name -> bytes."""
    shares: list[list[str]] = [[] for _ in range(ranks)]
    assigned_bytes, others = [0] * ranks, []
    for name, size in sorted(files.items(), key=lambda item: -item[1]):
        owner = _OF_RANK.search(name)
        if owner is None or int(owner[1]) >= ranks:
            others.append(name)
        else:
            shares[int(owner[1])].append(name)
            assigned_bytes[int(owner[1])] += size
    # `others` is sorted by size. The largest first, each to the rank with the fewest bytes.
    for name in others:
        rank = assigned_bytes.index(min(assigned_bytes))
        shares[rank].append(name)
        assigned_bytes[rank] += files[name]
    return shares


def write_through(folder: Path, workers: Workers) -> dict[str, checksums.Written]:
    """Wait until the disk has all files in subfolders of the checkpoint in `folder`, which the ranks have written."""
    # Files directly in the folder, such as data.pt, are the driver's own; seal_checkpoint syncs them.
    files = {str(path.relative_to(folder)): path.stat().st_size for path in folder.glob("*/**/*") if path.is_file()}
    each = [(folder, share) for share in assign_files(files, len(workers))]
    written = in_ranks(workers, checksums.write_through, each)
    return {name: file for share in written for name, file in share.items()}


def damaged(folder: Path, workers: Workers, weights: Callable[[str], bool]) -> list[str]:
    """A line for each damaged file of the checkpoint in `folder`, all of whose files exist.

    weights: whether a file of this name is loaded as weights only. Raises CheckpointError if one of those would call
    something when loaded, and if files cannot be read at present.
    """
    manifest = manifest_of(folder)
    expected = manifest.checkable()
    shares = assign_files({name: manifest.files[name] for name in expected}, len(workers))
    try:
        each: list[tuple[Any, ...]] = [(folder, {name: expected[name] for name in share}) for share in shares]
        lines_by_rank = in_ranks(workers, checksums.damaged, each)
    # Ray's error is also an instance of its cause's class.
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {getattr(error, 'cause', error)}") from error
    problems = [line for lines in lines_by_rank for line in lines]
    # Only files that are as they were written are searched for calls.
    if not problems:
        each = [(folder, [name for name in share if weights(name)]) for share in shares]
        calls_by_rank = in_ranks(workers, safe_loading.find_calls, each)
        safe_loading.refuse([line for lines in calls_by_rank for line in lines])
    return problems


@contextmanager
def loading_weights_only(workers: Workers) -> Iterator[None]:
    """Within the context, `torch.load` here and in these ranks loads weights only (`safe_loading`)."""
    in_ranks(workers, safe_loading.restrict, [(True,)] * len(workers))
    try:
        with safe_loading.restricted():
            yield
    finally:
        in_ranks(workers, safe_loading.restrict, [(False,)] * len(workers))
