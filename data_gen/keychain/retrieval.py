"""Stage retrieval: make prompts of the same length from the same haystack, with needles to be found in them.

Its rows belong to no question, so it has its own parts, named `multi_key-000000` and so on. Every prompt is proven by
`needle_solver.py`, which reads only the finished text.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any, ClassVar, Self

from data_gen.config import PipelineConfig
from data_gen.export_stage import prompt_counter
from data_gen.keychain.exact_length import Unfillable
from data_gen.keychain.lengths import PartLengths
from data_gen.keychain.needle_solver import UnsoundNeedles, find_values
from data_gen.keychain.needles import Kind, RetrievalOptions, needles
from data_gen.keychain.passage_pool import Haystack
from data_gen.keychain.prompt_composer import ComposedPrompt, PromptComposeOptions, PromptComposer
from data_gen.pipeline import PartStage
from data_gen.store import Document, Row, Store, dropped_row
from data_gen.text import derive_seed


class RetrievalStage(PartStage):
    """Row: `kind`, `question`, `answers` (all values that the question asks for), `source`, `prompt`, `prompt_tokens`,
    `passages`, `keys` (the key that the question names). Drops: no_filling (no passages fit into the remaining
    room)."""

    name = "retrieval"
    summary = "make prompts in which needles are to be found, where any are asked for."
    blocks: ClassVar = {"retrieval": RetrievalOptions}
    after = ("haystack",)

    def __init__(
        self, options: RetrievalOptions, compose: PromptComposeOptions, tokenizer: str, part_documents: int, seed: int
    ):
        self.options, self.compose = options, compose
        self.tokenizer, self.part_documents, self.seed = tokenizer, part_documents, seed

    @classmethod
    def from_config(cls, config: PipelineConfig, inputs: list[str]) -> Self:
        options, compose = config.block(RetrievalOptions), config.block(PromptComposeOptions)
        return cls(options, compose, config.tokenizer, config.part_documents, config.seed)

    def settings(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "tokenizer": self.tokenizer,
            "part_documents": self.part_documents,
            **self.block_settings(self.compose, "compose"),
            **self.block_settings(self.options),
        }

    def is_enabled(self) -> bool:
        return bool(self.options.rows)

    def check_before_run(self) -> None:
        if self.is_enabled():
            prompt_counter(self.tokenizer)

    def parts(self, store: Store) -> list[str]:
        parts = []
        for kind, rows in self.options.rows.items():
            parts += [f"{kind}-{n:06d}" for n in range(math.ceil(rows / self.part_documents))]
        return parts

    def documents(self, store: Store, part: str) -> list[Document]:
        kind, _, number = part.partition("-")
        first = int(number) * self.part_documents
        rows = range(first, min(first + self.part_documents, getattr(self.options, kind)))
        return [{self.name: {"id": f"{kind}-{row}", "kind": kind}} for row in rows]

    def open(self, store: Store) -> None:
        counter = prompt_counter(self.tokenizer)
        self.lengths, kinds = PartLengths(counter), list(self.options.rows)
        self.composer = PromptComposer(
            Haystack(store.root / "haystack" / "passages"),
            counter,
            self.compose,
            None,
            (),
            self.seed,
            sample=lambda draw: needles(draw, draw.choice(kinds), self.options, self.lengths).hidden,
        )

    def rows(self, store: Store, part: str, documents: list[Document]) -> Iterator[Row]:
        for document in documents:
            yield self._row(document[self.name]["id"], document[self.name]["kind"])

    def _row(self, name: str, kind: Kind) -> Row:
        draw = random.Random(derive_seed(self.seed, "needles", name))
        needle = needles(draw, kind, self.options, self.lengths)
        try:
            prompt = self.composer.retrieval(name, needle.hidden)
        except Unfillable as error:
            return dropped_row(name, error.reason, str(error))
        prove_needles(prompt, needle.values)
        return {
            "id": name,
            "kind": kind,
            "question": needle.question,
            "answers": needle.values,
            "source": f"retrieval.{kind}",
            **prompt.row_fields(kind),
        }


def prove_needles(prompt: ComposedPrompt, values: tuple[str, ...]) -> None:
    """Raise UnsoundNeedles unless these are the values that the finished prompt asks for."""
    if (answer := find_values(prompt.text)) != values:
        raise UnsoundNeedles(f"the prompt asks for {answer}, not for {values}")
