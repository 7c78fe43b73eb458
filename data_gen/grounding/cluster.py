"""Stage cluster: chunks of a document that speak of the same thing, wherever they stand.

LongRLVR's Algorithm 1: HDBSCAN over the chunks' embeddings by cosine distance, clusters of 4 to 16 chunks, documents
with at least 4 of them, of which 4 are drawn (by a seed of the document's own, so that a resumed run draws the same).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from verl_longrl.rewards.options import Options, choice, number

from data_gen.pipeline import PartStage
from data_gen.store import Document, Row, Store, drop
from data_gen.text import derive_seed

Selection = Literal["eom", "leaf"]


@dataclass(frozen=True)
class ClusterOptions(Options):
    """min_size, min_samples, epsilon, selection: HDBSCAN's min_cluster_size, min_samples, cluster_selection_epsilon
    (a cosine distance), cluster_selection_method. center: take the document's mean off its vectors first, for encoders
    to which all chunks of a document look alike, as static vectors do. max_size: larger clusters are left out.
    min_clusters: documents with fewer are dropped. chosen: clusters drawn from each document."""

    min_size: int = 4
    max_size: int = 16
    min_samples: int = 2
    epsilon: float = 0.3
    selection: Selection = "eom"
    center: bool = False
    min_clusters: int = 4
    chosen: int = 4

    def __post_init__(self) -> None:
        for name, low in (("min_size", 2), ("min_samples", 1), ("min_clusters", 1), ("chosen", 1)):
            number(f"cluster.{name}", getattr(self, name), low, whole=True)
        if self.max_size < self.min_size:
            raise ValueError(f"cluster.max_size = {self.max_size} is below cluster.min_size = {self.min_size}")
        number("cluster.epsilon", self.epsilon, 0, 2)
        choice("cluster.selection", self.selection, Selection)


class Cluster(PartStage):
    """Row: `clusters`, lists of chunk numbers in document order; `chosen`, the numbers of the clusters drawn; `noise`,
    how many chunks are in no cluster. Drops: few_clusters."""

    name = "cluster"
    after = ("chunk", "embed")

    def __init__(self, options: ClusterOptions, seed: int):
        self.options, self.seed = options, seed

    def settings(self) -> dict[str, Any]:
        return {"seed": self.seed, **self.named(self.options)}

    def rows(self, store: Store, part: str, documents: list[Document]) -> Iterator[Row]:
        vectors = store.read_array("embed", part) if documents else np.zeros((0, 1))
        for document in documents:
            name, row = document["embed"]["id"], document["embed"]
            labels = cluster(vectors[row["first"] : row["first"] + row["count"]], self.options)
            kept, found = sized(labels, self.options)
            if len(kept) < self.options.min_clusters:
                yield drop(name, "few_clusters", f"{len(kept)} of {self.options.min_clusters}, {found} of any size")
                continue
            draw = random.Random(derive_seed(self.seed, "cluster", name))
            chosen = sorted(draw.sample(range(len(kept)), min(self.options.chosen, len(kept))))
            counts = {
                "clusters": len(kept),
                "clusters of other sizes": found - len(kept),
                "clusters chosen": len(chosen),
            }
            yield {
                "id": name,
                "clusters": kept,
                "chosen": chosen,
                "noise": int(np.sum(labels < 0)),
                "counts": counts,
            }


def cluster(vectors: np.ndarray, options: ClusterOptions) -> np.ndarray:
    """HDBSCAN's label of each vector, int of shape (chunks,); -1 is noise."""
    from sklearn.cluster import HDBSCAN

    if len(vectors) <= max(options.min_size, options.min_samples):
        return np.full(len(vectors), -1)
    points = vectors.astype(np.float64)
    if options.center:
        points = points - points.mean(axis=0) + 1e-9  # never the zero vector, which has no direction
    return HDBSCAN(
        min_cluster_size=options.min_size,
        min_samples=options.min_samples,
        metric="cosine",
        cluster_selection_epsilon=options.epsilon,
        cluster_selection_method=options.selection,
        copy=True,
    ).fit_predict(points)


def sized(labels: np.ndarray, options: ClusterOptions) -> tuple[list[list[int]], int]:
    """Clusters of a wanted size as lists of chunk numbers, the one that begins first in front; and how many there are
    of any size."""
    groups = [np.flatnonzero(labels == label).tolist() for label in range(labels.max(initial=-1) + 1)]
    return sorted(group for group in groups if options.min_size <= len(group) <= options.max_size), len(groups)
