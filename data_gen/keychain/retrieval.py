"""Stage retrieval: prompts of the same length over the same haystack, in which needles are to be found.

Its rows belong to no question, so it shares out parts of its own: `multi_key-000000` and so on. Every prompt is proven
by `needle_solver.py`, which reads nothing but the finished text.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from data_gen.export_stage import prompt_counter
from data_gen.keychain.lengths import Lengths
from data_gen.keychain.needle_solver import UnsoundNeedles, find_values
from data_gen.keychain.needles import Kind, RetrievalOptions, needles
from data_gen.keychain.passage_pool import Haystack
from data_gen.keychain.prompt_composer import Composed, ComposeOptions, Composer, Unfillable
from data_gen.pipeline import PartStage
from data_gen.store import Document, Row, Store, drop
from data_gen.text import derive_seed


class Retrieval(PartStage):
    """Row: `kind`, `question`, `answers` (all values asked for), `source`, `prompt`, `prompt_tokens`, `passages`,
    `keys` (the one asked for). Drops: no_filling (no passages for the room that is left)."""

    name = "retrieval"
    after = ("haystack",)

    def __init__(
        self, options: RetrievalOptions, compose: ComposeOptions, tokenizer: str, part_documents: int, seed: int
    ):
        self.options, self.compose = options, compose
        self.tokenizer, self.part_documents, self.seed = tokenizer, part_documents, seed

    def settings(self) -> dict[str, Any]:
        compose = {f"compose.{key}": value for key, value in vars(self.compose).items()}
        own = {"seed": self.seed, "tokenizer": self.tokenizer, "part_documents": self.part_documents}
        return {**own, **compose, **self.named(self.options)}

    def wanted(self) -> bool:
        return bool(self.options.rows)

    def check(self) -> None:
        if self.wanted():
            prompt_counter(self.tokenizer)

    def parts(self, store: Store) -> list[str]:
        size = self.part_documents
        return [f"{kind}-{n:06d}" for kind, rows in self.options.rows.items() for n in range(-(-rows // size))]

    def documents(self, store: Store, part: str) -> list[Document]:
        kind, _, number = part.partition("-")
        first = int(number) * self.part_documents
        rows = range(first, min(first + self.part_documents, getattr(self.options, kind)))
        return [{self.name: {"id": f"{kind}-{row}", "kind": kind}} for row in rows]

    def open(self, store: Store) -> None:
        counter = prompt_counter(self.tokenizer)
        self.lengths, kinds = Lengths(counter), list(self.options.rows)
        self.composer = Composer(
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
            wanted = document[self.name]
            yield self._row(wanted["id"], wanted["kind"])

    def _row(self, name: str, kind: Kind) -> Row:
        draw = random.Random(derive_seed(self.seed, "needles", name))
        needle = needles(draw, kind, self.options, self.lengths)
        try:
            made = self.composer.retrieval(name, needle.hidden)
        except Unfillable as error:
            return drop(name, error.reason, str(error))
        prove(made, needle.values)
        return {
            "id": name,
            "kind": kind,
            "question": needle.question,
            "answers": needle.values,
            "source": f"retrieval.{kind}",
            "prompt": made.text,
            "prompt_tokens": made.tokens,
            "passages": made.passages,
            "gold_at": made.gold_at,
            "keys": made.keys,
            "counts": {f"{kind} prompts": 1, "prompt tokens": made.tokens},
        }


def prove(made: Composed, values: tuple[str, ...]) -> None:
    """Raises UnsoundNeedles when these are not the values that the finished prompt asks for."""
    if (found := find_values(made.text)) != values:
        raise UnsoundNeedles(f"the prompt asks for {found}, not for {values}")
