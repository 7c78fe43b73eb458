"""Stage cluster: group chunks of a document that are about the same subject, wherever in the document they are.

LongRLVR's Algorithm 1: HDBSCAN over the chunks' embeddings by cosine distance, clusters of 4 to 16 chunks. Documents
with fewer than 4 clusters are dropped; from the others 4 are drawn, with a seed derived from the document's id, so that
a resumed run draws the same ones.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from annotated_types import Ge, Le
from pydantic import PositiveInt
from pydantic.dataclasses import dataclass
from verl_longrl.options import OptionError, Options

from data_gen.config import PipelineConfig
from data_gen.pipeline import PartStage
from data_gen.store import Document, Row, Store, dropped_row
from data_gen.text import derive_seed

Selection = Literal["eom", "leaf"]


@dataclass(frozen=True)
class ClusterOptions(Options):
    """Options of stage cluster."""

    min_size: Annotated[int, Ge(2)] = 4
    """HDBSCAN's min_cluster_size."""
    max_size: int = 16
    """Clusters with more chunks are left out."""
    min_samples: PositiveInt = 2
    """HDBSCAN's min_samples."""
    epsilon: Annotated[float, Ge(0), Le(2)] = 0.3
    """HDBSCAN's cluster_selection_epsilon, a cosine distance."""
    selection: Selection = "eom"
    """HDBSCAN's cluster_selection_method."""
    center: bool = False
    """Subtract the mean of the document's vectors first. This helps encoders that find all chunks of a document
    similar, such as static vectors."""
    min_clusters: PositiveInt = 4
    """Documents with fewer clusters are dropped."""
    chosen: PositiveInt = 4
    """Clusters drawn from each document."""

    def __post_init__(self) -> None:
        if self.max_size < self.min_size:
            problem = f"expected at least min_size, {self.min_size}"
            raise OptionError("max_size", self.max_size, problem, "raise it, or lower min_size")


class ClusterStage(PartStage):
    """Row: `clusters`, lists of chunk numbers in document order; `chosen`, the numbers of the clusters drawn; `noise`,
    the number of chunks outside all clusters. Drops: few_clusters."""

    name = "cluster"
    summary = "cluster the chunks of each document by meaning."
    blocks: ClassVar = {"cluster": ClusterOptions}
    after = ("chunk", "embed")

    def __init__(self, options: ClusterOptions, seed: int):
        self.options, self.seed = options, seed

    @classmethod
    def from_config(cls, config: PipelineConfig, inputs: list[str]) -> Self:
        return cls(config.block(ClusterOptions), config.seed)

    def settings(self) -> dict[str, Any]:
        return {"seed": self.seed, **self.block_settings(self.options)}

    def rows(self, store: Store, part: str, documents: list[Document]) -> Iterator[Row]:
        vectors = store.read_array("embed", part) if documents else np.zeros((0, 1))
        for document in documents:
            name, row = document["embed"]["id"], document["embed"]
            labels = cluster_labels(vectors[row["first"] : row["first"] + row["count"]], self.options)
            kept, of_any_size = clusters_of_size(labels, self.options)
            if len(kept) < self.options.min_clusters:
                detail = f"{len(kept)} of {self.options.min_clusters}, {of_any_size} of any size"
                yield dropped_row(name, "few_clusters", detail)
                continue
            draw = random.Random(derive_seed(self.seed, "cluster", name))
            chosen = sorted(draw.sample(range(len(kept)), min(self.options.chosen, len(kept))))
            counts = {
                "clusters": len(kept),
                "clusters of other sizes": of_any_size - len(kept),
                "clusters chosen": len(chosen),
            }
            yield {
                "id": name,
                "clusters": kept,
                "chosen": chosen,
                "noise": int(np.sum(labels < 0)),
                "counts": counts,
            }


def cluster_labels(vectors: np.ndarray, options: ClusterOptions) -> np.ndarray:
    """HDBSCAN's label of each vector, int of shape (chunks,); -1 is noise."""
    from sklearn.cluster import HDBSCAN

    if len(vectors) <= max(options.min_size, options.min_samples):
        return np.full(len(vectors), -1)
    points = vectors.astype(np.float64)
    if options.center:
        # The small offset keeps a vector from becoming zero, which has no direction and so no cosine.
        points = points - points.mean(axis=0) + 1e-9
    return HDBSCAN(
        min_cluster_size=options.min_size,
        min_samples=options.min_samples,
        metric="cosine",
        cluster_selection_epsilon=options.epsilon,
        cluster_selection_method=options.selection,
        copy=True,
    ).fit_predict(points)


def clusters_of_size(labels: np.ndarray, options: ClusterOptions) -> tuple[list[list[int]], int]:
    """The clusters of min_size to max_size chunks, as lists of chunk numbers ordered by their first chunk; and the
    number of clusters of any size."""
    groups = [np.flatnonzero(labels == label).tolist() for label in range(labels.max(initial=-1) + 1)]
    return sorted(group for group in groups if options.min_size <= len(group) <= options.max_size), len(groups)
