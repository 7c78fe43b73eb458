"""Pipelines of stages over a store, in which each part of the documents is made once, however often a run is killed.

A stage declares its name and summary, the options that a user may set, the stages that it reads (`after`), what its
rows depend on (`settings`), and how it makes a row from a document. Sharding, resuming, order, progress and counts are
handled here. There are three kinds:

- `PartStage` makes the rows of one part at once (splitting, embedding, clustering);
- `DocumentStage` makes rows concurrently, also across parts, so that requests never wait for a part to fill up (stages
  that call models);
- `WholeStage` is one piece of work over all parts, done by rank 0 while the other ranks wait (deduplication, export).

A `Pipeline` is a list of stages:

    GROUNDING = Pipeline("grounding", [IngestStage, DedupStage, ChunkStage, ...], shared_parts="dedup", ...)
"""

from __future__ import annotations

import asyncio
import json
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

from verl_longrl.data.progress import Advance, progress_bar
from verl_longrl.options import Options

from data_gen.config import ConfigError, PipelineConfig
from data_gen.store import Document, Row, Store, StoreError, count_row
from data_gen.text import digest


class PipelineStage(ABC):
    """One step of a pipeline.

    Class attributes:
        name: its command and its folder.
        summary: one line for --help.
        blocks: the options that it adds to the configuration, key -> class; usually one, under the stage's name.
        after: the stages whose rows it reads. The last of them that was not skipped decides which documents enter.
        unit: what its progress bar counts.
    """

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    blocks: ClassVar[Mapping[str, type[Options]]] = {}
    after: ClassVar[tuple[str, ...]] = ()
    unit: ClassVar[str] = "parts"
    whole: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def from_config(cls, config: PipelineConfig, inputs: list[str]) -> Self:
        """The stage as configured, ready to run. inputs: the values of --input.

        Raises ConfigError, and CorpusError when an input does not exist.
        """

    @classmethod  # noqa: B027  (most stages need no such check)
    def check_config(cls, config: PipelineConfig) -> None:
        """Raise ConfigError for options that contradict those of other stages; called for every configuration."""

    def check_before_run(self) -> None:  # noqa: B027  (most stages have nothing to check)
        """Refuse, before the first stage of a run starts, what would otherwise fail hours later."""

    def is_enabled(self) -> bool:
        """Whether the configuration asks for this stage. A stage that is not enabled is skipped: it writes no rows and
        prints nothing, and the stages after it ignore it (see Store.documents)."""
        return True

    def parts(self, store: Store) -> list[str]:
        """Names of all parts of this stage, which the ranks share."""
        return store.parts(store.shared_parts)

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Everything besides its inputs that the stage's rows depend on, as JSON values. A folder with other settings
        is refused, so names and values must not change between versions."""

    def block_settings(self, options: Options, key: str = "") -> dict[str, Any]:
        """All options of a block as settings, under the names that they have in the configuration."""
        return {f"{key or self.name}.{option}": value for option, value in vars(options).items()}

    def run(self, store: Store, patience_s: float) -> None:
        """Make the missing ones of this rank's parts. Raises StoreError when the folder holds other settings or the
        stages before have not finished."""
        store.begin(self.name, self._all_settings(store))
        if store.is_done(self.name):
            return
        if not self.is_enabled():
            store.finish(self.name, {}, self.whole, skipped=1)
            return
        started = time.monotonic()
        if self.after:
            self._require_inputs(store, patience_s)
        counts, spent = self._make(store)
        store.finish(self.name, counts, self.whole, seconds=round(time.monotonic() - started, 3), **spent)

    def _all_settings(self, store: Store) -> dict[str, Any]:
        inputs = {}
        for stage in self.after:
            path = store.root / stage / "stage.json"
            if not path.exists():
                raise StoreError(
                    f"stage {self.name} needs the output of stage {stage}, which is missing in {store.root}; "
                    f"run {stage} first"
                )
            # The settings of a stage include the digests of its inputs' settings. So a change of any earlier stage
            # reaches all stages after it.
            inputs[stage] = digest(path.read_text(), size=6).hex()
        # Tuples become lists here, as they will be when stage.json is read back.
        return {**json.loads(json.dumps(self.settings())), "inputs": inputs}

    def _require_inputs(self, store: Store, patience_s: float) -> None:
        """Require this rank's parts of the stages before. (WholeStage waits for those of all ranks.)"""
        unfinished = [stage for stage in self.after if not store.is_done(stage)]
        if unfinished:
            raise StoreError(
                f"stage {self.name} needs the output of stage {unfinished[0]}, which has not finished; "
                f"run {unfinished[0]} first"
            )

    @abstractmethod
    def _make(self, store: Store) -> tuple[Counter[str], dict[str, Any]]:
        """Make the missing parts; returns the counts and what was spent, for the stage's marker."""

    def _own_parts(self, store: Store) -> tuple[list[str], list[str]]:
        """This rank's parts, and the missing ones among them."""
        own = store.shard.of(self.parts(store))
        return own, [part for part in own if not store.has_part(self.name, part)]


def recount(store: Store, stage: str, parts: Iterable[str]) -> Counter[str]:
    """The counts of parts that an earlier process made."""
    counts: Counter[str] = Counter()
    for part in parts:
        for row in store.read(stage, part):
            counts.update(count_row(row))
    return counts


class PartStage(PipelineStage):
    """A stage that makes all rows of a part at once."""

    def open(self, store: Store) -> None:
        """Load models and files; called before the first part, if any is missing."""

    def documents(self, store: Store, part: str) -> list[Document]:
        """The inputs of a part's rows: the documents that no earlier stage has dropped."""
        return list(store.documents(part, self.after))

    @abstractmethod
    def rows(self, store: Store, part: str, documents: list[Document]) -> Iterator[Row] | list[Row]:
        """One row for each document, in order."""

    def _make(self, store: Store) -> tuple[Counter[str], dict[str, Any]]:
        own, missing = self._own_parts(store)
        counts = recount(store, self.name, [part for part in own if part not in set(missing)])
        if missing:
            self.open(store)
        with progress_bar(self.name, len(own), self.unit, start=len(own) - len(missing)) as advance:
            for part in missing:
                counts += store.write(self.name, part, self.rows(store, part, self.documents(store, part)))
                advance()
        return counts, {}


class DocumentStage(PipelineStage):
    """A stage that makes rows concurrently.

    window: documents in flight at once, over all parts. How many requests they may send is up to the client.
    """

    unit = "documents"
    window: int = 64

    async def open(self, store: Store) -> None:
        """Connect; called before the first document, if any part is missing."""

    def enter_part(self, part: str) -> None:
        """The documents that follow are of this part; called in the task that starts theirs."""

    def leave_part(self, part: str) -> None:
        """This part has been written."""

    @abstractmethod
    async def row(self, document: Document) -> Row:
        """The row of one document."""

    async def close(self) -> None:
        """Disconnect; also called after a failure, even of `open`."""

    def totals(self, store: Store) -> Mapping[str, float]:
        """The requests, tokens and cost spent, for the stage's marker; also called when no part was missing."""
        return {}

    def note(self) -> str:
        """A few words for the progress display."""
        return ""

    def _make(self, store: Store) -> tuple[Counter[str], dict[str, Any]]:
        own, missing = self._own_parts(store)
        counts = recount(store, self.name, [part for part in own if part not in set(missing)])
        if not missing:
            return counts, dict(self.totals(store))
        # The total is known where this process sees all documents: those that the stage before has kept.
        total = None
        before = store.report(store.without_skipped(self.after)[-1])
        if before is not None and store.shard.world_size == 1:
            dropped = sum(n for key, n in before["counts"].items() if key.startswith("dropped: "))
            total = before["counts"]["documents"] - dropped
        with progress_bar(self.name, total, self.unit, start=counts["documents"]) as advance:
            counts += asyncio.run(self._make_parts(store, missing, advance))
        return counts, dict(self.totals(store))

    async def _make_parts(self, store: Store, parts: Sequence[str], advance: Advance) -> Counter[str]:
        counts: Counter[str] = Counter()
        in_flight = asyncio.Semaphore(self.window)

        async def make_row(document: Document) -> Row:
            try:
                return await self.row(document)
            finally:
                in_flight.release()
                advance(1, self.note())

        async def write_part(part: str, tasks: list[asyncio.Task[Row]]) -> None:
            # Awaiting in order keeps the rows in the documents' order, whichever finishes first.
            rows = [await task for task in tasks]
            # In a thread: a slow disk must not hold up the requests of other parts.
            counts.update(await asyncio.to_thread(store.write, self.name, part, rows))
            self.leave_part(part)

        try:
            await self.open(store)
            async with asyncio.TaskGroup() as group:
                for part in parts:
                    self.enter_part(part)
                    tasks: list[asyncio.Task[Row]] = []
                    for document in store.documents(part, self.after):
                        await in_flight.acquire()
                        tasks.append(group.create_task(make_row(document)))
                    group.create_task(write_part(part, tasks))
        except BaseExceptionGroup as failures:
            # The first failure cancels the rest, so it is the one to report.
            raise failures.exceptions[0] from failures
        finally:
            await self.close()
        return counts


class WholeStage(PipelineStage):
    """A stage that is one piece of work: rank 0 does it while the other ranks wait."""

    whole = True

    def parts(self, store: Store) -> list[str]:
        """Names of the parts that it goes through."""
        return store.parts(self.after[0])

    @abstractmethod
    def make(self, store: Store, advance: Advance) -> Counter[str]:
        """Do the work; every file must be written atomically. Returns its counts."""

    def run(self, store: Store, patience_s: float) -> None:
        if store.shard.rank == 0:
            super().run(store, patience_s)
        else:
            store.wait_for(self.name, [0], patience_s)
            store.begin(self.name, self._all_settings(store))

    def _require_inputs(self, store: Store, patience_s: float) -> None:
        for stage in self.after:
            store.wait_for(stage, range(store.shard.world_size), patience_s)

    def _make(self, store: Store) -> tuple[Counter[str], dict[str, Any]]:
        parts = len(self.parts(store)) if self.after else None
        with progress_bar(self.name, parts, self.unit) as advance:
            return self.make(store, advance), {}


class Pipeline:
    """A list of stages with its configuration, and what its command line and data card say about it.

    Args:
        name: of the package: python -m data_gen.NAME.
        stages: in order; the last one writes the parquet files.
        shared_parts: the stage whose parts the ranks share. All ranks wait for it.
        inputs: what --input may be.
        title, about: heading and text of the data set's card.
    """

    def __init__(
        self,
        name: str,
        stages: Sequence[type[PipelineStage]],
        *,
        shared_parts: str,
        inputs: str,
        title: str,
        about: str,
    ):
        self.name, self.shared_parts, self.inputs, self.title, self.about = name, shared_parts, inputs, title, about
        self.stages = {stage.name: stage for stage in stages}
        self.config = PipelineConfig.of_stages(f"{name.capitalize()}Config", stages)

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The names of the stages, in order."""
        return tuple(self.stages)

    def stages_from(self, stage: str) -> tuple[str, ...]:
        """This stage and all after it. Raises ConfigError when it is unknown."""
        self._require_known(stage)
        return self.stage_names[self.stage_names.index(stage) :]

    def stages_until(self, stage: str) -> tuple[str, ...]:
        """All stages up to this one. Raises ConfigError when it is unknown."""
        self._require_known(stage)
        return self.stage_names[: self.stage_names.index(stage) + 1]

    def build_stage(self, name: str, config: PipelineConfig, inputs: list[str]) -> PipelineStage:
        """The stage of this name, ready to run. Raises ConfigError, and CorpusError when an input does not exist."""
        self._require_known(name)
        return self.stages[name].from_config(config, inputs)

    def _require_known(self, stage: str) -> None:
        if stage not in self.stages:
            raise ConfigError(f"{stage}: unknown stage; stages: {', '.join(self.stages)}")
