"""Stage chunk: split documents into spans of at most `max_tokens` tokens; see splitter.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Self

from annotated_types import Ge
from pydantic.dataclasses import dataclass
from verl_longrl.options import Options

from data_gen.config import PipelineConfig
from data_gen.grounding.splitter import SEPARATORS, Splitter
from data_gen.pipeline import PartStage
from data_gen.store import Document, Row, Store
from data_gen.tokenizer import load_tokenizer


@dataclass(frozen=True)
class ChunkOptions(Options):
    """Options of stage chunk."""

    max_tokens: Annotated[int, Ge(16)] = 512
    """Longest chunk, in tokens."""
    separators: tuple[str, ...] = SEPARATORS
    """Texts at which a chunk may begin, in order of preference."""


class ChunkStage(PartStage):
    """Row: `spans`, a list of [start, end, tokens], one for each chunk in document order."""

    name = "chunk"
    summary = "split documents into chunks."
    blocks: ClassVar = {"chunk": ChunkOptions}
    after = ("ingest", "dedup")

    def __init__(self, options: ChunkOptions, tokenizer: str):
        self.options, self.tokenizer = options, tokenizer

    @classmethod
    def from_config(cls, config: PipelineConfig, inputs: list[str]) -> Self:
        return cls(config.block(ChunkOptions), config.tokenizer)

    def settings(self) -> dict[str, Any]:
        return {"tokenizer": self.tokenizer, **self.block_settings(self.options)}

    def open(self, store: Store) -> None:
        tokenizer = load_tokenizer(self.tokenizer)
        self.splitter = Splitter(tokenizer.backend_tokenizer, self.options.max_tokens, self.options.separators)

    def rows(self, store: Store, part: str, documents: list[Document]) -> Iterator[Row]:
        for document in documents:
            spans = self.splitter.split(document["ingest"]["text"])
            yield {"id": document["ingest"]["id"], "spans": spans, "counts": {"chunks": len(spans)}}


def chunk_texts(document: Document) -> list[str]:
    """The texts of a document's chunks."""
    text = document["ingest"]["text"]
    return [text[start:end] for start, end, _ in document["chunk"]["spans"]]
