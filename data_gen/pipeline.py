"""Stages over a store: each part of documents is made once, whoever stops the run and whenever.

A stage says what it reads (`after`), what its results depend on (`settings`) and how it makes a row from a document;
everything else (sharding, resuming, order, progress, counts) is here. Three kinds:

- `PartStage` makes the rows of one part at once (splitting, embedding, clustering);
- `DocumentStage` makes rows concurrently, over parts too, so requests never wait for a part to fill (LLM stages);
- `WholeStage` is one piece of work over all parts, done by rank 0 while the others wait (deduplication, export).
"""

from __future__ import annotations

import asyncio
import json
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from data_gen.progress import Advance, progress
from data_gen.store import Document, Row, Store, StoreError, count
from data_gen.text import digest


class Stage(ABC):
    """One step of a pipeline.

    Class attributes: `name`; `after`, the stages whose rows it reads, of which the last that was wanted decides which
    documents enter; `unit`, what its progress counts.
    """

    name: ClassVar[str]
    after: ClassVar[tuple[str, ...]] = ()
    unit: ClassVar[str] = "parts"
    whole: ClassVar[bool] = False

    def check(self) -> None:  # noqa: B027  (most stages have nothing to check)
        """Before a run of several stages: refuse now what would only be found out hours later."""

    def wanted(self) -> bool:
        """Whether the configuration asks for any of it; a stage that is not wanted makes nothing, says nothing, and has
        no say in what enters the stages after it (see Store.documents)."""
        return True

    def parts(self, store: Store) -> list[str]:
        """Names of all parts it makes, which ranks share out."""
        return store.parts(store.list_of)

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Everything the stage's rows depend on beside its inputs; JSON values."""

    def named(self, options: Any) -> dict[str, Any]:
        """All of an option group as settings, under the names they have in the configuration."""
        return {f"{self.name}.{key}": value for key, value in vars(options).items()}

    def run(self, store: Store, patience_s: float) -> None:
        """Make what is missing of this rank's parts. Raises StoreError when the folder or the stages before do not
        fit."""
        store.begin(self.name, self._settings(store))
        if store.done(self.name):
            return
        if not self.wanted():
            store.finish(self.name, {}, self.whole, skipped=1)
            return
        started = time.monotonic()
        if self.after:
            self._require(store, patience_s)
        counts, more = self._make(store)
        store.finish(self.name, counts, self.whole, seconds=round(time.monotonic() - started, 3), **more)

    def _settings(self, store: Store) -> dict[str, Any]:
        inputs = {}
        for stage in self.after:
            path = store.root / stage / "stage.json"
            if not path.exists():
                raise StoreError(f"{self.name} reads what {stage} makes, and {store.root} has none; run {stage} first")
            inputs[stage] = digest(path.read_text(), size=6).hex()
        return {**json.loads(json.dumps(self.settings())), "inputs": inputs}

    def _require(self, store: Store, patience_s: float) -> None:
        """Before a stage that maps parts to parts, this rank's parts of the stages before must be there."""
        missing = [stage for stage in self.after if not store.done(stage)]
        if missing:
            raise StoreError(
                f"{self.name} reads what {missing[0]} makes, which has not finished; run {missing[0]} first"
            )

    @abstractmethod
    def _make(self, store: Store) -> tuple[Counter[str], dict[str, Any]]:
        """Make what is missing; its counts, and what was spent."""

    def _parts(self, store: Store) -> tuple[list[str], list[str]]:
        """This rank's parts, and those of them that are still to be made."""
        mine = store.shard.of(self.parts(store))
        return mine, [part for part in mine if not store.has(self.name, part)]


def recount(store: Store, stage: str, parts: Iterable[str]) -> Counter[str]:
    """The counts of parts that an earlier process made."""
    counts: Counter[str] = Counter()
    for part in parts:
        for row in store.read(stage, part):
            counts.update(count(row))
    return counts


class PartStage(Stage):
    """A stage that makes all rows of a part at once."""

    def open(self, store: Store) -> None:
        """Load what is needed; called before the first part that is to be made."""

    def documents(self, store: Store, part: str) -> list[Document]:
        """What the rows of a part are made of: the documents that the stages before have not dropped."""
        return list(store.documents(part, self.after))

    @abstractmethod
    def rows(self, store: Store, part: str, documents: list[Document]) -> Iterator[Row] | list[Row]:
        """One row for each document, in order."""

    def _make(self, store: Store) -> tuple[Counter[str], dict[str, Any]]:
        mine, todo = self._parts(store)
        counts = recount(store, self.name, [part for part in mine if part not in set(todo)])
        if todo:
            self.open(store)
        with progress(self.name, len(mine), self.unit, start=len(mine) - len(todo)) as advance:
            for part in todo:
                counts += store.write(self.name, part, self.rows(store, part, self.documents(store, part)))
                advance()
        return counts, {}


class DocumentStage(Stage):
    """A stage that makes rows concurrently.

    `window`: documents in work at once, over all parts; how many requests they may send is the client's business.
    """

    unit = "documents"
    window: int = 64

    async def open(self, store: Store) -> None:
        """Connect; called before the first document, if any is to be made."""

    def enter(self, part: str) -> None:
        """The documents that come now are of this part; called in the task that starts theirs."""

    def leave(self, part: str) -> None:
        """This part is written."""

    @abstractmethod
    async def row(self, document: Document) -> Row:
        """The row of one document."""

    async def close(self) -> None:
        """Disconnect; called even after a failure, that of `open` included."""

    def totals(self, store: Store) -> Mapping[str, float]:
        """What was spent, for the stage's marker; also when nothing was left to do."""
        return {}

    def note(self) -> str:
        """A few words for the progress display."""
        return ""

    def _make(self, store: Store) -> tuple[Counter[str], dict[str, Any]]:
        mine, todo = self._parts(store)
        made = recount(store, self.name, [part for part in mine if part not in set(todo)])
        if not todo:
            return made, dict(self.totals(store))
        before = store.report(store.made(self.after)[-1])
        total = None
        if before is not None and store.shard.world_size == 1:
            counts = before["counts"]
            total = counts["documents"] - sum(n for key, n in counts.items() if key.startswith("dropped: "))
        with progress(self.name, total, self.unit, start=made["documents"]) as advance:
            return made + asyncio.run(self._make_all(store, todo, advance)), dict(self.totals(store))

    async def _make_all(self, store: Store, parts: Sequence[str], advance: Advance) -> Counter[str]:
        counts: Counter[str] = Counter()
        room = asyncio.Semaphore(self.window)

        async def make(document: Document) -> Row:
            try:
                return await self.row(document)
            finally:
                room.release()
                advance(1, self.note())

        async def write(part: str, rows: list[asyncio.Task[Row]]) -> None:
            made = [await row for row in rows]
            counts.update(await asyncio.to_thread(store.write, self.name, part, made))  # the disk may take its time
            self.leave(part)

        try:
            await self.open(store)
            async with asyncio.TaskGroup() as group:
                for part in parts:
                    self.enter(part)
                    rows: list[asyncio.Task[Row]] = []
                    for document in store.documents(part, self.after):
                        await room.acquire()
                        rows.append(group.create_task(make(document)))
                    group.create_task(write(part, rows))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        finally:
            await self.close()
        return counts


class WholeStage(Stage):
    """A stage that is one piece of work: rank 0 does it, the others wait until it is done."""

    whole = True

    def parts(self, store: Store) -> list[str]:
        """Names of the parts it goes through."""
        return store.parts(self.after[0])

    @abstractmethod
    def make(self, store: Store, advance: Advance) -> Counter[str]:
        """Do it; everything it writes is atomic. Returns its counts."""

    def run(self, store: Store, patience_s: float) -> None:
        if store.shard.rank == 0:
            super().run(store, patience_s)
        else:
            store.wait_for(self.name, [0], patience_s)
            store.begin(self.name, self._settings(store))

    def _require(self, store: Store, patience_s: float) -> None:
        for stage in self.after:
            store.wait_for(stage, range(store.shard.world_size), patience_s)

    def _make(self, store: Store) -> tuple[Counter[str], dict[str, Any]]:
        parts = len(self.parts(store)) if self.after else None
        with progress(self.name, parts, self.unit) as advance:
            return self.make(store, advance), {}
