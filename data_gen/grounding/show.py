"""Show random clusters, or random selected questions with their evidence, as text."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

from data_gen.grounding.chunk import chunk_texts
from data_gen.store import Document, Store, StoreError

WIDTH = 160


def show_clusters(store: Store, count: int, seed: int) -> Iterator[str]:
    """Random clusters, each with the beginnings of its chunks."""
    for document, draw in _sample(store, ("ingest", "chunk", "cluster"), count, seed):
        texts, row = chunk_texts(document), document["cluster"]
        number = draw.choice(row["chosen"])
        yield f"{document['ingest']['source']}, cluster {number} of {len(row['clusters'])}, {len(texts)} chunks"
        yield from (f"  [{i}] {_short(texts[i])}" for i in row["clusters"][number])
        yield ""


def show_questions(store: Store, count: int, seed: int) -> Iterator[str]:
    """Random selected questions, each with its answer, scores and evidence."""
    for document, _ in _sample(store, ("ingest", "chunk", "select"), count, seed):
        texts, row = chunk_texts(document), document["select"]
        yield f"{document['ingest']['source']}, {len(texts)} chunks"
        yield f"  question {row['question']}"
        yield f"  answer   {row['answer']}"
        without, with_it = _share(row["closed_book"]), _share(row["pass_rate"])
        yield f"  score {row['score']:g}; right answers without the document: {without}, with it: {with_it}"
        yield from (f"  [{i}] {_short(texts[i])}" for i in row["evidence"])
        yield ""


def _sample(store: Store, stages: tuple[str, ...], count: int, seed: int) -> Iterator[tuple[Document, random.Random]]:
    """Up to `count` documents from random parts, in the order drawn."""
    parts, draw = store.parts(stages[-1]), random.Random(seed)
    if not parts:
        raise StoreError(f"{store.root} has no stage {stages[-1]} yet")
    draw.shuffle(parts)
    most_per_part = math.ceil(count / len(parts))
    for part in parts:
        documents = list(store.documents(part, stages))
        for document in draw.sample(documents, min(len(documents), most_per_part, count)):
            yield document, draw
            count -= 1
        if count <= 0:
            return


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."


def _share(value: float | None) -> str:
    return "not asked" if value is None else f"{value:.0%}"
