"""Store the output of a pipeline run in a folder, from which an interrupted run resumes.

    DIR/
      chunk/                      one folder per stage
        stage.json                the settings its parts were made with
        000003.jsonl              a part: one line per document; it gets this name when it is complete
        rank-0-of-1.json          marker: this rank has made all its parts; their counts, seconds
        whole.json                instead of it where one process does a stage for all ranks
      ...

Every document that enters a stage leaves it as exactly one row: with the stage's results, or with `drop`, a reason. A
dropped document enters no later stage. So counts add up by construction, and `funnel` reads them from the markers.
Parts keep their names and the order of their documents from stage to stage; rank r of n makes every n-th part.

A folder belongs to a stage only if it has a stage.json, and only files that a stage writes are ever deleted.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from verl_longrl.data.jsonl import encode_line
from verl_longrl.folder_lock import FolderInUse, hold_folders

Row = dict[str, Any]
"""The result of one stage for one document: `id`, then either the results or `drop` (a reason) and `detail`."""
Document = dict[str, Row]
"""A document that was not dropped: stage -> its row."""


STAGE_FILE = "stage.json"
FILES_OF_STAGES = (
    STAGE_FILE,
    "whole.json",
    "rank-*-of-*.json",
    "server-*.json",
    "*.jsonl",
    "*.npy",
    "train.parquet",
    "val.parquet",
    "passages",
    "passages/haystack.json",
    "passages/texts.bin",
    "passages/*.npy",
    ".*.tmp",
    "passages/.*.tmp",
)
"""Patterns of all files that stages write into their folders."""


class StoreError(ValueError):
    """The folder does not fit the command; the message says what to do."""


def dropped_row(document_id: str, reason: str, detail: str = "") -> Row:
    """The row of a document that is dropped. The reason is one of a few fixed words, which are counted; the detail is
    free text."""
    return {"id": document_id, "drop": reason, "detail": detail}


@dataclass(frozen=True)
class Shard:
    """The share of the work that this process does: every `world_size`-th part, beginning with part `rank`."""

    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.world_size < 1 or not 0 <= self.rank < self.world_size:
            raise ValueError(
                f"--rank {self.rank} --world-size {self.world_size}: expected a rank from 0 to world size - 1"
            )

    def of(self, items: Sequence[Any]) -> list[Any]:
        """This rank's share of `items`."""
        return list(items[self.rank :: self.world_size])


class Store:
    """Reads and writes the parts of a run's stages.

    Args:
        root: the run's folder.
        shared_parts: the stage whose parts the ranks share. It must be one that all ranks wait for: the list of any
            other stage's parts may still grow while another rank works on it.
        shard: this process's share.
    """

    def __init__(self, root: str | Path, shared_parts: str, shard: Shard | None = None):
        self.root, self.shared_parts, self.shard = Path(root), shared_parts, shard or Shard()

    # -- parts

    def parts(self, stage: str) -> list[str]:
        """Names of a stage's complete parts, in order."""
        # An unfinished part has a temporary name, which ends in .tmp.
        return sorted(path.stem for path in (self.root / stage).glob("*.jsonl"))

    def own_parts(self) -> list[str]:
        """The parts that this rank makes."""
        return self.shard.of(self.parts(self.shared_parts))

    def has_part(self, stage: str, part: str) -> bool:
        """Whether a part of the stage is complete."""
        return self._part(stage, part).exists()

    def read(self, stage: str, part: str) -> Iterator[Row]:
        """Rows of one part, in order.

        Raises StoreError, naming the line, when the file is damaged.
        """
        path = self._part(stage, part)
        if not path.exists():
            raise StoreError(f"{path} is missing, but its stage has finished. Fix: make it again with --redo {stage}")
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise StoreError(
                        f"{path}: line {number}: not JSON ({error}); the file was changed or damaged. Fix: make it "
                        f"again with --redo {stage}"
                    ) from error

    def write(self, stage: str, part: str, rows: Iterable[Row]) -> Counter[str]:
        """Write one part, atomically; returns the sum of `count_row` over its rows."""
        counts: Counter[str] = Counter()

        def lines() -> Iterator[bytes]:
            for row in rows:
                counts.update(count_row(row))
                yield encode_line(row)

        write_atomically(self._part(stage, part), lines())
        return counts

    def write_array(self, stage: str, part: str, array: np.ndarray) -> None:
        """Write the array that belongs to a part. Call it before the part itself is written: a part that exists is
        taken to be complete, array included."""
        path = self._part(stage, part).with_suffix(".npy")
        temporary = _temporary_path(path)
        with temporary.open("wb") as file:
            np.save(file, array)
        _publish(temporary, path)

    def read_array(self, stage: str, part: str) -> np.ndarray:
        """The array of a part, memory-mapped."""
        return np.load(self._part(stage, part).with_suffix(".npy"), mmap_mode="r")

    def documents(self, part: str, stages: Sequence[str]) -> Iterator[Document]:
        """Documents of a part that the last of `stages` did not drop, each with its rows of all `stages`, in order.
        Stages that were skipped have no rows and are ignored."""
        stages = self.without_skipped(stages)
        readers = {stage: self.read(stage, part) for stage in stages}
        for last in readers[stages[-1]]:
            if "drop" in last:
                continue
            document: Document = {}
            for stage in stages[:-1]:
                # All stages have the documents of a part in the same order, an earlier stage maybe more of them. So
                # each file is read once, forward: rows are skipped until the one of this document.
                row = next((row for row in readers[stage] if row["id"] == last["id"]), None)
                if row is None:
                    raise StoreError(
                        f"{self._part(stage, part)} has no document {last['id']}, which stage {stages[-1]} has: the "
                        f"folder holds files of several runs. Fix: rerun with --redo {stages[-1]}"
                    )
                document[stage] = row
            document[stages[-1]] = last
            yield document

    # -- stages

    def begin(self, stage: str, settings: Mapping[str, Any]) -> None:
        """Begin or resume the stage with these settings. Raises StoreError when its parts were made with others."""
        path = self.root / stage / STAGE_FILE
        made_with = json.loads(path.read_text()) if path.exists() else None
        if made_with == settings:
            return
        if made_with is not None and any(path.parent.glob("*.jsonl")):
            # The first of several, so that all ranks report the same one.
            key = min(key for key in {*made_with, *settings} if made_with.get(key) != settings.get(key))
            raise StoreError(
                f"{self.root / stage} was made with {key} = {made_with.get(key)!r}, now it is {settings.get(key)!r}. "
                f"Fix: give another --output, or make this stage and all after it again with --redo {stage}"
            )
        if made_with is not None:
            # An earlier try with other settings made no part, so there is nothing that could be mixed up.
            self._require_ours([stage])
            shutil.rmtree(path.parent)
        write_atomically(path, [json.dumps(settings, indent=1, ensure_ascii=False).encode()])

    def record_first(self, stage: str, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Record values, such as the model of a server, that all processes of a stage must share. The first process
        that calls this decides: returned are its values, in every process."""
        path = self.root / stage / f"{name}.json"
        if not path.exists():
            temporary = _temporary_path(path)
            try:
                temporary.write_text(json.dumps(values))
                with suppress(FileExistsError):
                    # Unlike a rename, a link never replaces the file of a process that was faster.
                    os.link(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
        return self.recorded(stage, name) or dict(values)

    def recorded(self, stage: str, name: str) -> dict[str, Any] | None:
        """The values that `record_first` has recorded, None before that."""
        path = self.root / stage / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def is_done(self, stage: str) -> bool:
        """Whether the stage was finished by this rank, or by one for all ranks."""
        return self._marker(stage).exists() or self._whole(stage).exists()

    def without_skipped(self, stages: Iterable[str]) -> list[str]:
        """Those of the stages that were not skipped, in order."""
        return [stage for stage in stages if not self._skipped(stage)]

    def finish(self, stage: str, counts: Mapping[str, int], whole: bool = False, **more: Any) -> None:
        """Mark the stage as finished by this rank or, with `whole`, for all ranks."""
        report = {"counts": dict(sorted(counts.items())), **more}
        path = self._whole(stage) if whole else self._marker(stage)
        write_atomically(path, [json.dumps(report, indent=1).encode()])

    def wait_for(self, stage: str, ranks: Iterable[int], patience_s: float, poll_s: float = 0.5) -> None:
        """Wait until these ranks have finished `stage`.

        Raises StoreError, naming the missing ranks, when no stage's folder gets a new file for `patience_s` seconds.
        """
        folder, world_size = self.root / stage, self.shard.world_size
        since, last = time.monotonic(), -1
        while not self._whole(stage).exists():
            missing = [rank for rank in ranks if not (folder / f"rank-{rank}-of-{world_size}.json").exists()]
            if not missing:
                return
            # Any new file counts, because a rank that is waited for may still be busy with an earlier stage.
            entries = sum(1 for _ in self.root.glob("*/*"))
            if entries != last:
                since, last = time.monotonic(), entries
            elif time.monotonic() - since > patience_s:
                raise StoreError(
                    f"stage {stage}: ranks {', '.join(map(str, missing))} of {world_size} have not finished, and made "
                    f"no progress for {patience_s:.0f} s. Fix: run them (--rank R --world-size {world_size}), then "
                    "rerun this one"
                )
            time.sleep(poll_s)

    def report(self, stage: str) -> dict[str, Any] | None:
        """The markers of all ranks summed, None while any is missing. Numbers add up, `counts` by key."""
        if self._whole(stage).exists():
            return json.loads(self._whole(stage).read_text())
        # A run that was resumed with another number of ranks has markers of several world sizes, such as
        # rank-0-of-2 (whose rank 1 was killed) and rank-0-of-1. Only a complete set counts.
        markers = sorted((self.root / stage).glob("rank-*-of-*.json"))
        worlds = Counter(path.stem.split("-of-")[1] for path in markers)
        complete = next((world for world, count in worlds.items() if count == int(world)), None)
        if complete is None:
            return None
        total: dict[str, Any] = {"counts": Counter()}
        for path in markers:
            if path.stem.endswith(f"-of-{complete}"):
                marker = json.loads(path.read_text())
                total["counts"].update(marker.pop("counts"))
                for name, value in marker.items():
                    total[name] = total.get(name, 0) + value
        total["counts"] = dict(sorted(total["counts"].items()))
        return total

    def has_begun(self, stage: str) -> bool:
        """Whether the stage's folder was made by data_gen."""
        return (self.root / stage / STAGE_FILE).is_file()

    def require_room(self, stages: Iterable[str], files: Iterable[str]) -> None:
        """Before the first stage: raise StoreError if the folder has other people's files under the names of these
        stages and files."""
        stages = list(stages)
        begun = [stage for stage in stages if self.has_begun(stage)]
        taken = [stage for stage in stages if stage not in begun and self._has_content(self.root / stage)]
        taken += [] if begun else [name for name in files if (self.root / name).exists()]
        if taken:
            raise StoreError(
                f"{self.root} holds {', '.join(taken)}, which no run of data_gen made and which this one would "
                "replace. Fix: give another --output"
            )

    def remove(self, stages: Iterable[str]) -> None:
        """Delete the output of these stages. Raises StoreError, and deletes nothing, while another rank is at work or
        when a folder has files that no stage wrote."""
        to_delete = [stage for stage in stages if self._has_content(self.root / stage)]
        # The locks of the other ranks are taken while files are deleted, so that none of them can start meanwhile.
        # A lock file has the lock's name and a number, such as .rank-1.lock-7.
        names = {path.name.rpartition("-")[0] for path in self.root.glob(".rank-*.lock-*")} - {self._lock()}
        with ExitStack() as locks:
            for name in sorted(names):
                rank = name.strip(".").removesuffix(".lock")
                locks.enter_context(self._hold_lock(name, f"{rank} is at work in {self.root}", "stop it first"))
            self._require_ours(to_delete)
            for stage in to_delete:
                shutil.rmtree(self.root / stage)

    def _require_ours(self, stages: Iterable[str]) -> None:
        """Raise StoreError when the folder of a stage, or a file in it, was not made by data_gen."""
        for stage in stages:
            folder = self.root / stage
            if folder.is_symlink() or not self.has_begun(stage):
                raise StoreError(
                    f"{folder} was not made by data_gen (it has no {STAGE_FILE}, or is a link), so it is not deleted"
                )
            files = (path.relative_to(folder) for path in sorted(folder.rglob("*")))
            foreign = [str(path) for path in files if not any(_matches(path, pattern) for pattern in FILES_OF_STAGES)]
            if foreign:
                raise StoreError(
                    f"{folder} also holds {', '.join(foreign[:3])}{' and more' if len(foreign) > 3 else ''}, which "
                    "data_gen did not write, so it is not deleted. Fix: move these files away"
                )

    @staticmethod
    def _has_content(folder: Path) -> bool:
        """Whether the folder has any file that is not hidden. (A stage that another rank begins right now has only a
        hidden temporary file.)"""
        if not folder.is_dir():
            return folder.exists() or folder.is_symlink()
        return any(not path.name.startswith(".") for path in folder.iterdir())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold this rank's lock on the folder. Raises StoreError when another process holds it."""
        problem = f"another process is working in {self.root} as rank {self.shard.rank}"
        with self._hold_lock(self._lock(), problem, "wait for it, or stop it"):
            self._remove_temporary_files()
            yield

    @contextmanager
    def _hold_lock(self, name: str, problem: str, fix: str) -> Iterator[None]:
        with ExitStack() as stack:
            try:
                stack.enter_context(hold_folders([self.root], name))
            except FolderInUse as error:
                raise StoreError(f"{problem} ({error}). Fix: {fix}") from error
            except OSError as error:
                raise StoreError(
                    f"{self.root}: cannot be written ({error.strerror}). Fix: give another --output"
                ) from error
            yield

    def _remove_temporary_files(self) -> None:
        """Remove the temporary files of processes on this machine that were killed while writing."""
        for depth in ("", "*/", "*/passages/"):
            for path in self.root.glob(f"{depth}.*.{socket.gethostname()}-*.tmp"):
                pid = path.name.split("-")[-1].removesuffix(".tmp")
                # Only on this machine can one see whether the process is still alive.
                if pid.isdigit() and not Path("/proc", pid).exists():
                    path.unlink(missing_ok=True)

    def _lock(self) -> str:
        return f".rank-{self.shard.rank}.lock"

    def _part(self, stage: str, part: str) -> Path:
        return self.root / stage / f"{part}.jsonl"

    def _skipped(self, stage: str) -> bool:
        markers = (self._whole(stage), self._marker(stage))
        return any(path.exists() and "skipped" in json.loads(path.read_text()) for path in markers)

    def _whole(self, stage: str) -> Path:
        return self.root / stage / "whole.json"

    def _marker(self, stage: str) -> Path:
        return self.root / stage / f"rank-{self.shard.rank}-of-{self.shard.world_size}.json"


def _matches(path: Path, pattern: str) -> bool:
    """Whether a relative path matches the pattern and has as many folders as it (`Path.match` alone looks only at the
    end of a path)."""
    return len(path.parts) == pattern.count("/") + 1 and path.match(pattern)


def count_row(row: Row) -> Counter[str]:
    """A row's contribution to its stage's counts: `documents`, `dropped: reason`, and the row's own `counts`."""
    # Stages count in their rows, so counts are right whichever process made a row.
    counts = Counter({"documents": 1}, **row.get("counts", {}))
    if "drop" in row:
        counts[f"dropped: {row['drop']}"] += 1
    return counts


def write_atomically(path: Path, lines: Iterable[bytes]) -> None:
    """Write `lines` (each with its line end) to `path`, which appears when all of them are on disk."""
    temporary = _temporary_path(path)
    try:
        with temporary.open("wb") as file:
            for line in lines:
                file.write(line)
        _publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary_path(path: Path) -> Path:
    """A hidden file beside `path`; host and process id in its name tell which process would still write to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")


def _publish(temporary: Path, path: Path) -> None:
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    # The content is on disk before its final name is.
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        # Without this, a power cut could undo the rename, though a later part is already on disk.
        os.fsync(folder)
    finally:
        os.close(folder)
