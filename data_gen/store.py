"""The folder of a pipeline run: resumable by what is in it, whoever stops it and whenever.

    DIR/
      chunk/                      one folder per stage
        stage.json                the settings its parts were made with
        000003.jsonl              a part: one line per document, under its name only when complete
        rank-0-of-1.json          marker: this rank has made all its parts; their counts, seconds
        whole.json                instead, where one process does a stage for all ranks
      ...

Every document that enters a stage leaves it as exactly one row: with the stage's results, or with `drop`, a reason. A
dropped document enters no later stage. So counts add up by construction, and `funnel` reads them off the markers.
Parts keep their names and the order of their documents from stage to stage; rank r of n makes every n-th part.

A folder is a stage's only with its stage.json, and only what a stage writes is ever deleted.
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
"""What one stage says about one document: `id`, then either its results or `drop` (a reason) and `detail`."""
Document = dict[str, Row]
"""A document that is still in: stage -> its row."""


STAGE = "stage.json"
WRITTEN = (
    *(STAGE, "whole.json", "rank-*-of-*.json", "server-*.json", "*.jsonl", "*.npy", "train.parquet", "val.parquet"),
    *("passages", "passages/haystack.json", "passages/texts.bin", "passages/*.npy", ".*.tmp", "passages/.*.tmp"),
)
"""All that stages write into their folders."""


class StoreError(ValueError):
    """The folder does not fit what is asked of it; the message says what to do."""


def drop(document_id: str, reason: str, detail: str = "") -> Row:
    """The row of a document that ends here. Reasons are few and fixed (they are counted), details are free."""
    return {"id": document_id, "drop": reason, "detail": detail}


@dataclass(frozen=True)
class Shard:
    """Which part of the work is this process's: every `world_size`-th part, from `rank` on."""

    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.world_size < 1 or not 0 <= self.rank < self.world_size:
            raise ValueError(
                f"rank {self.rank} of world size {self.world_size}; ranks go from 0 to world size - 1, each in a "
                "process of its own"
            )

    def of(self, items: Sequence[Any]) -> list[Any]:
        """This rank's share."""
        return list(items[self.rank :: self.world_size])


class Store:
    """Reads and writes the parts of a run's stages.

    Args:
        root: the run's folder.
        shard: this process's share.
        list_of: the stage whose parts are shared out. Other stages of other ranks may be in the making, so this must
            be one that all ranks wait for.
    """

    def __init__(self, root: str | Path, list_of: str, shard: Shard | None = None):
        self.root, self.list_of, self.shard = Path(root), list_of, shard or Shard()

    # -- parts

    def parts(self, stage: str) -> list[str]:
        """Names of a stage's complete parts, in order."""
        return sorted(path.stem for path in (self.root / stage).glob("*.jsonl"))

    def mine(self) -> list[str]:
        """The parts that are this rank's to make."""
        return self.shard.of(self.parts(self.list_of))

    def has(self, stage: str, part: str) -> bool:
        return self._part(stage, part).exists()

    def read(self, stage: str, part: str) -> Iterator[Row]:
        """Rows of one part, in order.

        Raises StoreError naming the line when a file was damaged.
        """
        path = self._part(stage, part)
        if not path.exists():
            raise StoreError(f"{path} is missing though its stage has finished; use --redo {stage} to make it anew")
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise StoreError(
                        f"{path}: line {number}: not JSON ({error}); the file was changed or damaged: use --redo "
                        f"{stage} to make it anew"
                    ) from error

    def write(self, stage: str, part: str, rows: Iterable[Row]) -> Counter[str]:
        """Write one part, whole or not at all; returns `count`s of its rows."""
        counts: Counter[str] = Counter()

        def lines() -> Iterator[bytes]:
            for row in rows:
                counts.update(count(row))
                yield encode_line(row)

        write_atomically(self._part(stage, part), lines())
        return counts

    def write_array(self, stage: str, part: str, array: np.ndarray) -> None:
        """Write the array that belongs to a part; to be called before the part itself is written."""
        path = self._part(stage, part).with_suffix(".npy")
        aside = _aside(path)
        with aside.open("wb") as file:
            np.save(file, array)
        _publish(aside, path)

    def read_array(self, stage: str, part: str) -> np.ndarray:
        return np.load(self._part(stage, part).with_suffix(".npy"), mmap_mode="r")

    def documents(self, part: str, stages: Sequence[str]) -> Iterator[Document]:
        """Documents of a part that the last of `stages` did not drop, each with its rows of all `stages`, in order.
        Stages that were skipped (because nobody asked for what they make) have no rows, and no say."""
        stages = self.made(stages)
        readers = {stage: self.read(stage, part) for stage in stages}
        for last in readers[stages[-1]]:
            if "drop" in last:
                continue
            document: Document = {}
            for stage in stages[:-1]:
                row = next((row for row in readers[stage] if row["id"] == last["id"]), None)
                if row is None:
                    raise StoreError(
                        f"{self._part(stage, part)} has no document {last['id']}, which {stages[-1]} has; the folder "
                        f"was mixed from several runs: use --redo {stages[-1]}"
                    )
                document[stage] = row
            document[stages[-1]] = last
            yield document

    # -- stages

    def begin(self, stage: str, settings: Mapping[str, Any]) -> None:
        """Continue the stage with these settings. Raises StoreError when its parts were made with others."""
        path = self.root / stage / STAGE
        made_with = json.loads(path.read_text()) if path.exists() else None
        if made_with == settings:
            return
        if made_with is not None and any(path.parent.glob("*.jsonl")):
            key = min(key for key in {*made_with, *settings} if made_with.get(key) != settings.get(key))
            raise StoreError(
                f"{self.root / stage} was made with {key} = {made_with.get(key)!r}, now it is "
                f"{settings.get(key)!r}; give another --output, or --redo {stage} to make it and what follows anew"
            )
        if made_with is not None:  # a first try that made nothing binds nobody
            self._require_ours([stage])
            shutil.rmtree(path.parent)
        write_atomically(path, [json.dumps(settings, indent=1, ensure_ascii=False).encode()])

    def agree(self, stage: str, name: str, found: Mapping[str, Any]) -> dict[str, Any]:
        """What the first process of a stage found out about the world, for all that come later: `found` where this is
        the first, else what the first one kept."""
        path = self.root / stage / f"{name}.json"
        if not path.exists():
            aside = _aside(path)
            try:
                aside.write_text(json.dumps(found))
                with suppress(FileExistsError):
                    os.link(aside, path)  # unlike a rename, only where there is none yet
            finally:
                aside.unlink(missing_ok=True)
        return self.agreed(stage, name) or dict(found)

    def agreed(self, stage: str, name: str) -> dict[str, Any] | None:
        """What a process of the stage has found out, None when none has yet."""
        path = self.root / stage / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def done(self, stage: str) -> bool:
        """Whether this rank, or one for all, has finished the stage."""
        return self._marker(stage).exists() or self._whole(stage).exists()

    def made(self, stages: Iterable[str]) -> list[str]:
        """Those of the stages that were not skipped, in order."""
        return [stage for stage in stages if not self._skipped(stage)]

    def finish(self, stage: str, counts: Mapping[str, int], whole: bool = False, **more: Any) -> None:
        """Mark the stage as finished by this rank, or (`whole`) by this one for all."""
        report = {"counts": dict(sorted(counts.items())), **more}
        path = self._whole(stage) if whole else self._marker(stage)
        write_atomically(path, [json.dumps(report, indent=1).encode()])

    def wait_for(self, stage: str, ranks: Iterable[int], patience_s: float, poll_s: float = 0.5) -> None:
        """Until these ranks have finished `stage`.

        Raises StoreError naming the missing ranks when nothing new appears in any stage's folder for `patience_s`.
        """
        folder, world_size = self.root / stage, self.shard.world_size
        since, last = time.monotonic(), -1
        while not self._whole(stage).exists():
            missing = [rank for rank in ranks if not (folder / f"rank-{rank}-of-{world_size}.json").exists()]
            if not missing:
                return
            entries = sum(1 for _ in self.root.glob("*/*"))
            if entries != last:
                since, last = time.monotonic(), entries
            elif time.monotonic() - since > patience_s:
                raise StoreError(
                    f"stage {stage}: ranks {', '.join(map(str, missing))} of {world_size} have not finished, and "
                    f"nothing was added for {patience_s:.0f} s; run them (--rank R --world-size {world_size}), then "
                    "this one again"
                )
            time.sleep(poll_s)

    def report(self, stage: str) -> dict[str, Any] | None:
        """The markers of all ranks summed, None while any is missing. Numbers add up, `counts` by key."""
        if self._whole(stage).exists():
            return json.loads(self._whole(stage).read_text())
        markers = sorted((self.root / stage).glob("rank-*-of-*.json"))
        worlds = {path.stem.split("-of-")[1]: 0 for path in markers}
        for path in markers:
            worlds[path.stem.split("-of-")[1]] += 1
        complete = next((world for world, have in worlds.items() if have == int(world)), None)
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

    def begun(self, stage: str) -> bool:
        """Whether the stage's folder is one of ours."""
        return (self.root / stage / STAGE).is_file()

    def require_room(self, stages: Iterable[str], files: Iterable[str]) -> None:
        """Before the first stage: nothing of somebody else's is in the place of these stages and files. Raises
        StoreError."""
        stages = list(stages)
        begun = [stage for stage in stages if self.begun(stage)]
        taken = [stage for stage in stages if stage not in begun and self._visible(self.root / stage)]
        taken += [] if begun else [name for name in files if (self.root / name).exists()]
        if taken:
            raise StoreError(
                f"{self.root} holds {', '.join(taken)}, which no run of data_gen made and this one would replace; "
                "give another --output"
            )

    def remove(self, stages: Iterable[str]) -> None:
        """Delete what these stages made. Raises StoreError, with nothing deleted, while another rank is at work, and
        where there is anything that no stage wrote."""
        begun = [stage for stage in stages if self._visible(self.root / stage)]
        names = {path.name.rpartition("-")[0] for path in self.root.glob(".rank-*.lock-*")} - {self._lock()}
        with ExitStack() as others:
            for name in sorted(names):
                rank = name.strip(".").removesuffix(".lock")
                others.enter_context(self._held(name, f"{rank} is at work in {self.root}", "stop it first"))
            self._require_ours(begun)
            for stage in begun:
                shutil.rmtree(self.root / stage)

    def _require_ours(self, stages: Iterable[str]) -> None:
        """Raises StoreError where the folder of a stage is none of ours, or has something in it that is not."""
        for stage in stages:
            folder = self.root / stage
            if folder.is_symlink() or not self.begun(stage):
                raise StoreError(f"{folder} was not made by data_gen (no {STAGE}, or a link), so it is not deleted")
            inside = (path.relative_to(folder) for path in sorted(folder.rglob("*")))
            foreign = [str(path) for path in inside if not any(_is(path, pattern) for pattern in WRITTEN)]
            if foreign:
                raise StoreError(
                    f"{folder} also holds {', '.join(foreign[:3])}{' and more' if len(foreign) > 3 else ''}, which "
                    "data_gen did not write, so it is not deleted; move that away first"
                )

    @staticmethod
    def _visible(folder: Path) -> bool:
        """Whether there is anything; what a stage that begins writes first is hidden for a moment."""
        if not folder.is_dir():
            return folder.exists() or folder.is_symlink()
        return any(not path.name.startswith(".") for path in folder.iterdir())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold this rank's place in the folder. Raises StoreError when another process holds it."""
        place = f"another process is working in {self.root} as rank {self.shard.rank}"
        with self._held(self._lock(), place, "wait for it, or stop it"):
            self._sweep()
            yield

    @contextmanager
    def _held(self, name: str, otherwise: str, fix: str) -> Iterator[None]:
        with ExitStack() as stack:
            try:
                stack.enter_context(hold_folders([self.root], name))
            except FolderInUse as error:
                raise StoreError(f"{otherwise} ({error}); {fix}") from error
            except OSError as error:
                raise StoreError(f"{self.root} cannot be written ({error.strerror}); give another --output") from error
            yield

    def _sweep(self) -> None:
        """Remove what processes of this machine were writing when they were killed."""
        for depth in ("", "*/", "*/passages/"):
            for path in self.root.glob(f"{depth}.*.{socket.gethostname()}-*.tmp"):
                pid = path.name.split("-")[-1].removesuffix(".tmp")
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


def _is(path: Path, pattern: str) -> bool:
    """Whether a relative path is of the pattern, at its depth."""
    return len(path.parts) == pattern.count("/") + 1 and path.match(pattern)


def count(row: Row) -> Counter[str]:
    """What a row adds to its stage's counts: `documents`, `dropped: reason`, and the row's own `counts`."""
    counts = Counter({"documents": 1}, **row.get("counts", {}))
    if "drop" in row:
        counts[f"dropped: {row['drop']}"] += 1
    return counts


def write_atomically(path: Path, lines: Iterable[bytes]) -> None:
    """Write `lines` (each with its line end) to `path`, which appears when they are all on disk."""
    aside = _aside(path)
    try:
        with aside.open("wb") as file:
            for line in lines:
                file.write(line)
        _publish(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _aside(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")


def _publish(aside: Path, path: Path) -> None:
    with aside.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(aside, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # else a power cut may bring the old name back
    finally:
        os.close(folder)
