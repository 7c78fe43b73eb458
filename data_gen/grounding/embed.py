"""Stage embed: one unit vector for every chunk, kept as 16-bit floats beside the part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from verl_longrl.rewards.options import Options, choice, number

from data_gen.embeddings import Encoder, SentenceTransformerEncoder, ServerEncoder, StaticEncoder
from data_gen.grounding.chunk import chunk_texts
from data_gen.llm import LLMOptions
from data_gen.llm_stage import keep_to_model
from data_gen.pipeline import PartStage
from data_gen.store import Document, Row, Store

Backend = Literal["sentence-transformers", "server", "static"]


@dataclass(frozen=True)
class EmbedOptions(Options):
    """backend: sentence-transformers (here), server (an OpenAI-compatible embeddings endpoint, servers.SERVER) or
    static (WordLlama's word vectors: no GPU, no network). model: for sentence-transformers. batch_size: texts at once.
    """

    backend: Backend = "sentence-transformers"
    model: str = "BAAI/bge-m3"
    server: str = "default"
    batch_size: int = 64

    def __post_init__(self) -> None:
        choice("embed.backend", self.backend, Backend)
        number("embed.batch_size", self.batch_size, 1, whole=True)


class Embed(PartStage):
    """Row: `first` and `count`, the rows of the part's array that are the document's chunks."""

    name = "embed"
    after = ("ingest", "chunk")

    def __init__(self, options: EmbedOptions, server: LLMOptions | None):
        self.options, self.server = options, server

    def settings(self) -> dict[str, Any]:
        model = {"sentence-transformers": self.options.model, "static": "wordllama 256"}.get(self.options.backend)
        return {"embed.backend": self.options.backend, "embed.model": model or (self.server and self.server.model)}

    def open(self, store: Store) -> None:
        self.encoder = self._encoder()
        if isinstance(self.encoder, ServerEncoder):
            keep_to_model(store, self.name, self.options.server, self.encoder.model())

    def _encoder(self) -> Encoder:
        if self.options.backend == "static":
            return StaticEncoder()
        if self.options.backend == "server":
            assert self.server is not None
            return ServerEncoder(self.server, self.options.batch_size)
        return SentenceTransformerEncoder(self.options.model, self.options.batch_size)

    def rows(self, store: Store, part: str, documents: list[Document]) -> Iterator[Row]:
        texts = [text for document in documents for text in chunk_texts(document)]
        if texts:
            store.write_array(self.name, part, self.encoder.encode(texts).astype(np.float16))
        first = 0
        for document in documents:
            count = len(document["chunk"]["spans"])
            yield {"id": document["chunk"]["id"], "first": first, "count": count, "counts": {"embeddings": count}}
            first += count
