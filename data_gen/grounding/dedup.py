"""Stage dedup: one of each group of equal or nearly equal documents stays, the first in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from verl_longrl.rewards.options import Options, number

from data_gen.minhash import NearDuplicates
from data_gen.pipeline import WholeStage
from data_gen.progress import Advance
from data_gen.store import Row, Store, drop


@dataclass(frozen=True)
class DedupOptions(Options):
    """threshold: Jaccard similarity of word 5-grams from which documents are the same; 0 keeps all but exact copies."""

    threshold: float = 0.8

    def __post_init__(self) -> None:
        number("dedup.threshold", self.threshold, 0, 0.98)


class Dedup(WholeStage):
    """Row: nothing. Drops: duplicate, near_duplicate."""

    name = "dedup"
    after = ("ingest",)

    def __init__(self, options: DedupOptions):
        self.options = options

    def settings(self) -> dict[str, Any]:
        return self.named(self.options)

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
            if row["id"] in self.seen:
                yield drop(row["id"], "duplicate", row["source"])
                continue
            self.seen.add(row["id"])
            found = self.near.add(row["id"], row["minhash"]) if self.near else None
            if found:
                yield drop(row["id"], "near_duplicate", f"{row['source']}: {found[1]:.2f} like document {found[0]}")
            else:
                yield {"id": row["id"]}
