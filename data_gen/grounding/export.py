"""Stage export: write the selected questions as training parquet, split by document, validated, and described.

A document over the token budget can be fitted to it: random chunks that are not evidence are left out until it fits.
The remaining chunks are renumbered, and the labels with them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass
from verl_longrl.data.prompt import INSTRUCTIONS, grounded_prompt
from verl_longrl.data.schema import Sample

from data_gen.config import PipelineConfig
from data_gen.export_stage import ExportStage, SplitOptions
from data_gen.grounding.chunk import chunk_texts
from data_gen.special_tokens import SpecialTokens
from data_gen.store import Document, Row, dropped_row
from data_gen.text import derive_seed

Overlong = Literal["drop", "fit"]


@dataclass(frozen=True)
class ExportOptions(SplitOptions):
    """Options of stage export."""

    max_prompt_tokens: PositiveInt = 65536
    """Longest prompt in tokens as the model sees it, chat template included (data.max_prompt_length in training)."""
    overlong: Overlong = "fit"
    """For longer prompts: drop the document, or fit it (leave out chunks that are not evidence)."""
    data_source: str = "longrlvr"
    """The data source of the rows, which selects their reward."""
    instructions: str = INSTRUCTIONS
    """The end of every prompt, after the question."""
    chat_template_kwargs: dict[str, Any] | None = None
    """Arguments of the chat template, as in training (data.apply_chat_template_kwargs)."""


class GroundingExportStage(ExportStage):
    """Row: also `chunks` (the numbers of those shown), `prompt_tokens`. Drops: overlong."""

    blocks: ClassVar = {"export": ExportOptions}
    after = ("ingest", "chunk", "select")
    origins = (after,)
    options: ExportOptions

    def __init__(self, options: ExportOptions, tokenizer: str, seed: int):
        super().__init__(options, tokenizer, options.max_prompt_tokens, seed, options.chat_template_kwargs)

    @classmethod
    def from_config(cls, config: PipelineConfig, inputs: list[str]) -> Self:
        return cls(config.block(ExportOptions), config.tokenizer, config.seed)

    @cached_property
    def special(self) -> SpecialTokens:
        return SpecialTokens(self.counter.tokenizer)

    def decide(self, name: str, document: Document) -> Row:
        chunks = list(range(len(document["chunk"]["spans"])))
        tokens = self._count(document, chunks)
        if tokens > self.max_tokens and self.options.overlong == "fit":
            chunks, tokens = self._fit(document, tokens)
        if tokens > self.max_tokens:
            return dropped_row(name, "overlong", f"{tokens} tokens > {self.max_tokens}")
        fitted = len(chunks) < len(document["chunk"]["spans"])
        counts = {"fitted": int(fitted), "prompt tokens": tokens}
        return {"id": name, "rows": 1, "chunks": chunks, "prompt_tokens": tokens, "counts": counts}

    def _fit(self, document: Document, tokens: int) -> tuple[list[int], int]:
        """The chunks that remain after enough others are left out, and the length of the prompt with them."""
        select, spans = document["select"], document["chunk"]["spans"]
        spare = [i for i in range(len(spans)) if i not in set(select["evidence"])]
        random.Random(derive_seed(self.seed, "fit", select["id"])).shuffle(spare)
        kept = set(range(len(spans)))
        while tokens > self.max_tokens and spare:
            excess = tokens - self.max_tokens
            while excess > 0 and spare:
                left_out = spare.pop()
                kept.remove(left_out)
                # An underestimate, since a chunk's tags are not counted. So the prompt may become shorter than needed
                # by some tags, but is usually counted once only.
                excess -= spans[left_out][2]
            tokens = self._count(document, sorted(kept))
        return sorted(kept), tokens

    def _prompt(self, document: Document, chunks: list[int]) -> list[dict[str, str]]:
        texts = chunk_texts(document)
        return grounded_prompt([texts[i] for i in chunks], self._question(document), self.options.instructions)

    def _question(self, document: Document) -> str:
        """The question, with special tokens that the model may have written broken up, as in ingested documents."""
        return self.special.break_up(document["select"]["question"])

    def _count(self, document: Document, chunks: list[int]) -> int:
        return self.counter.count([self._prompt(document, chunks)])[0]

    def samples(self, document: Document) -> Iterator[Sample]:
        ingest, select, export = document["ingest"], document["select"], document[self.name]
        chunks, texts = export["chunks"], chunk_texts(document)
        number = {chunk: position for position, chunk in enumerate(chunks)}
        payload = {
            "document": ingest["id"],
            "source": ingest["source"],
            "meta": ingest["meta"],
            **{key: select[key] for key in ("explanation", "score", "closed_book", "pass_rate")},
        }
        yield Sample(
            data_source=self.options.data_source,
            prompt=self._prompt(document, chunks),
            ground_truth=select["answer"],
            index=0,
            question=self._question(document),
            task="longrlvr",
            ability="grounded_qa",
            ref_chunks=[number[i] for i in select["evidence"]],
            ref_chunks_text=[texts[i] for i in select["evidence"]],
            num_chunks=len(chunks),
            payload=payload,
            prompt_tokens=export["prompt_tokens"],
        )
