"""Stage export: selected questions as the project's training parquet, split by document, checked, and described.

A document over the token budget can be fitted to it: chunks that are no evidence are left out, at random, until it
fits; the rest is renumbered, and the labels with it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from verl_longrl.data.prompt import INSTRUCTIONS, grounded_prompt
from verl_longrl.data.schema import Sample
from verl_longrl.rewards.options import choice, number

from data_gen.export_stage import ExportStage, SplitOptions
from data_gen.grounding.chunk import chunk_texts
from data_gen.special_tokens import SpecialTokens
from data_gen.store import Document, Row, drop
from data_gen.text import derive_seed

Overlong = Literal["drop", "fit"]


@dataclass(frozen=True)
class ExportOptions(SplitOptions):
    """max_prompt_tokens: length limit of a prompt as the model sees it, chat template included (data.max_prompt_length
    of the training). overlong: what happens to longer ones: drop, or fit (leave out chunks that are no evidence).
    val_fraction: share of documents held out, at least one when it is above 0. data_source: selects the reward.
    instructions: what the prompt says after the question. chat_template_kwargs: as in the training
    (data.apply_chat_template_kwargs)."""

    max_prompt_tokens: int = 65536
    overlong: Overlong = "fit"
    data_source: str = "longrlvr"
    instructions: str = INSTRUCTIONS
    chat_template_kwargs: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        number("export.max_prompt_tokens", self.max_prompt_tokens, 1, whole=True)
        choice("export.overlong", self.overlong, Overlong)


class Export(ExportStage):
    """Row: also `chunks` (numbers of those shown), `prompt_tokens`. Drops: overlong."""

    after = ("ingest", "chunk", "select")
    origins = (after,)
    options: ExportOptions

    def __init__(self, options: ExportOptions, tokenizer: str, seed: int):
        super().__init__(options, tokenizer, options.max_prompt_tokens, seed, options.chat_template_kwargs)

    @cached_property
    def special(self) -> SpecialTokens:
        return SpecialTokens(self.counter.tokenizer)

    def decide(self, name: str, document: Document) -> Row:
        chunks = list(range(len(document["chunk"]["spans"])))
        tokens = self._count(document, chunks)
        if tokens > self.max_tokens and self.options.overlong == "fit":
            chunks, tokens = self._fit(document, tokens)
        if tokens > self.max_tokens:
            return drop(name, "overlong", f"{tokens} tokens > {self.max_tokens}")
        fitted = len(chunks) < len(document["chunk"]["spans"])
        counts = {"fitted": int(fitted), "prompt tokens": tokens}
        return {"id": name, "rows": 1, "chunks": chunks, "prompt_tokens": tokens, "counts": counts}

    def _fit(self, document: Document, tokens: int) -> tuple[list[int], int]:
        """The chunks that remain when enough others are left out, and the prompt's length with them."""
        select, spans = document["select"], document["chunk"]["spans"]
        spare = [i for i in range(len(spans)) if i not in set(select["evidence"])]
        random.Random(derive_seed(self.seed, "fit", select["id"])).shuffle(spare)
        kept = set(range(len(spans)))
        while tokens > self.max_tokens and spare:
            excess = tokens - self.max_tokens
            while excess > 0 and spare:
                out = spare.pop()
                kept.remove(out)
                excess -= spans[out][2]  # without its tags, which only makes the prompt shorter still
            tokens = self._count(document, sorted(kept))
        return sorted(kept), tokens

    def _prompt(self, document: Document, chunks: list[int]) -> list[dict[str, str]]:
        texts = chunk_texts(document)
        return grounded_prompt([texts[i] for i in chunks], self._question(document), self.options.instructions)

    def _question(self, document: Document) -> str:
        """The question; what a model wrote is read as text, as the document is since it was ingested."""
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
