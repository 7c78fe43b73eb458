"""Stage haystack: collect the passages of all questions and any further text, cut them into chunks, and find in which
of these each question's evidence is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from verl_longrl.data.prompt import neutralise_tags

from data_gen.config import PipelineConfig
from data_gen.grounded_qa.chunk_pool import ChunkMeasure, ChunkPool
from data_gen.grounding.chunk import ChunkOptions
from data_gen.keychain.haystack import HaystackOptions, HaystackStage
from data_gen.keychain.passage_pool import passage_body
from data_gen.store import Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class ChunkHaystackStage(HaystackStage):
    """Row: `own`, the numbers of the question's passages in the haystack; `gold`, [number, chunks] of those with
    evidence; `evidence`, its texts."""

    blocks: ClassVar = {"haystack": HaystackOptions, "chunk": ChunkOptions}
    chunk_options: ChunkOptions

    @classmethod
    def from_config(cls, config: PipelineConfig, inputs: list[str]) -> Self:
        stage = super().from_config(config, inputs)
        stage.chunk_options = config.block(ChunkOptions)
        return stage

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), **self.block_settings(self.chunk_options, "chunk")}

    def measure(self, tokenizer: PreTrainedTokenizerFast) -> ChunkMeasure:
        return ChunkMeasure(tokenizer.backend_tokenizer, self.chunk_options)

    def open_haystack(self, folder: Path) -> ChunkPool:
        return ChunkPool(folder)

    def is_unfit(self, text: str) -> bool:
        return neutralise_tags(text) != text

    def row(self, question: Row, haystack: ChunkPool) -> Row:
        own, evidence = [], []
        gold: dict[int, set[int]] = {}
        for passage in question["passages"]:
            body = passage_body(passage["title"], passage["text"])
            number = haystack.find(body)
            own.append(number)
            if passage["evidence"]:
                evidence += [passage["text"][start:end] for start, end in passage["evidence"]]
                # In the haystack the text follows its title.
                before = len(body) - len(passage["text"])
                spans = [(before + start, before + end) for start, end in passage["evidence"]]
                gold.setdefault(number, set()).update(haystack.overlapping(number, spans))
        pairs = [[number, sorted(chunks)] for number, chunks in gold.items() if chunks]
        return {"id": question["id"], "own": list(dict.fromkeys(own)), "gold": pairs, "evidence": evidence}
