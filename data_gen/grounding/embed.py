"""Stage embed: one unit vector for every chunk, stored as 16-bit floats beside the part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import PositiveInt
from pydantic.dataclasses import dataclass
from verl_longrl.options import Options

from data_gen.config import PipelineConfig
from data_gen.embeddings import Encoder, SentenceTransformerEncoder, ServerEncoder, StaticEncoder
from data_gen.grounding.chunk import chunk_texts
from data_gen.llm import LLMOptions
from data_gen.llm_stage import require_same_model
from data_gen.pipeline import PartStage
from data_gen.store import Document, Row, Store

Backend = Literal["sentence-transformers", "server", "static"]


@dataclass(frozen=True)
class EmbedOptions(Options):
    """Options of stage embed."""

    backend: Backend = "sentence-transformers"
    """sentence-transformers (in this process), server (an OpenAI-compatible embeddings endpoint) or static (WordLlama's
    word vectors, which need neither a GPU nor a network)."""
    model: str = "BAAI/bge-m3"
    """The model of backend sentence-transformers: a folder or a name on the hub."""
    server: str = "default"
    """The one of `servers` that backend server uses."""
    batch_size: PositiveInt = 64
    """Texts embedded at once."""


class EmbedStage(PartStage):
    """Row: `first` and `count`; the document's chunks are the rows [first, first + count) of the part's array."""

    name = "embed"
    summary = "embed the chunks."
    blocks: ClassVar = {"embed": EmbedOptions}
    after = ("ingest", "chunk")

    def __init__(self, options: EmbedOptions, server: LLMOptions | None):
        self.options, self.server = options, server

    @classmethod
    def from_config(cls, config: PipelineConfig, inputs: list[str]) -> Self:
        options = config.block(EmbedOptions)
        needs_server = options.backend == "server"
        return cls(options, config.server(options.server, "embed.server") if needs_server else None)

    def settings(self) -> dict[str, Any]:
        model = {"sentence-transformers": self.options.model, "static": "wordllama 256"}.get(self.options.backend)
        return {"embed.backend": self.options.backend, "embed.model": model or (self.server and self.server.model)}

    def open(self, store: Store) -> None:
        self.encoder = self._encoder()
        if isinstance(self.encoder, ServerEncoder):
            require_same_model(store, self.name, self.options.server, self.encoder.served_model())

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
