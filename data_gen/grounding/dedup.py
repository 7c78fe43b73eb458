"""Stage dedup: keep the first document of each group of equal or nearly equal ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Self

from annotated_types import Ge, Le
from pydantic.dataclasses import dataclass
from verl_longrl.data.progress import Advance
from verl_longrl.options import Options

from data_gen.config import PipelineConfig
from data_gen.minhash import NearDuplicates
from data_gen.pipeline import WholeStage
from data_gen.store import Row, Store, dropped_row


@dataclass(frozen=True)
class DedupOptions(Options):
    """Options of stage dedup."""

    threshold: Annotated[float, Ge(0), Le(0.98)] = 0.8
    """Jaccard similarity of word 5-grams at which two documents count as the same; 0 drops exact copies only."""


class DedupStage(WholeStage):
    """Row: nothing. Drops: duplicate, near_duplicate."""

    name = "dedup"
    summary = "drop equal and nearly equal documents."
    blocks: ClassVar = {"dedup": DedupOptions}
    after = ("ingest",)

    def __init__(self, options: DedupOptions):
        self.options = options

    @classmethod
    def from_config(cls, config: PipelineConfig, inputs: list[str]) -> Self:
        return cls(config.block(DedupOptions))

    def settings(self) -> dict[str, Any]:
        return self.block_settings(self.options)

    def make(self, store: Store, advance: Advance) -> Counter[str]:
        self.seen: set[str] = set()
        self.near = NearDuplicates(self.options.threshold) if self.options.threshold else None
        counts: Counter[str] = Counter()
        for part in store.parts("ingest"):
            counts += store.write(self.name, part, self._rows(store, part))
            advance()
        return counts

    def _rows(self, store: Store, part: str) -> Iterator[Row]:
        for document in store.documents(part, ("ingest",)):
            row = document["ingest"]
            # An id is a digest of the text, so equal ids are equal documents.
            if row["id"] in self.seen:
                yield dropped_row(row["id"], "duplicate", row["source"])
                continue
            self.seen.add(row["id"])
            similar = self.near.add(row["id"], row["minhash"]) if self.near else None
            if similar:
                other, similarity = similar
                detail = f"{row['source']}: similarity {similarity:.2f} with document {other}"
                yield dropped_row(row["id"], "near_duplicate", detail)
            else:
                yield {"id": row["id"]}
