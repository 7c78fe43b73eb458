"""Stage fill: make a prompt of a given length from each question, asked openly or behind chains that are proven.

The proof (`chain_solver.py`) reads only the finished text. A prompt whose chain does not lead to the question, by the
keys that it was made of, would be a bug in this program, and ends the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Self

from pydantic.dataclasses import dataclass
from verl_longrl.options import Options, Share

from data_gen.config import PipelineConfig
from data_gen.export_stage import prompt_counter
from data_gen.keychain.chain_solver import UnsoundChain, solve_chain
from data_gen.keychain.chains import ChainOptions
from data_gen.keychain.exact_length import Unfillable
from data_gen.keychain.passage_pool import Haystack
from data_gen.keychain.prompt_composer import (
    ComposedPrompt,
    PlacedQuestion,
    PromptComposeOptions,
    PromptComposer,
)
from data_gen.pipeline import PartStage
from data_gen.store import Document, Row, Store, dropped_row
from data_gen.text import derive_seed


@dataclass(frozen=True)
class FillOptions(Options):
    """Options of stage fill."""

    keychain_share: Share = 0.5
    """Share of the questions that are hidden behind chains; the others are asked openly. Published: half of them, and
    no question in both forms."""


class FillStage(PartStage):
    """Row: `kind` (keychain, plain), `prompt`, `prompt_tokens`, `passages`, `gold_at`, `keys`. Drops: too_long,
    no_filling (no passages fit into the remaining room)."""

    name = "fill"
    summary = "make prompts of the wanted length, half of them behind chains of keys."
    blocks: ClassVar = {"fill": FillOptions, "compose": PromptComposeOptions, "chains": ChainOptions}
    after = ("questions", "haystack", "filter")

    def __init__(
        self, options: FillOptions, compose: PromptComposeOptions, chains: ChainOptions, tokenizer: str, seed: int
    ):
        self.options, self.compose, self.chains = options, compose, chains
        self.tokenizer, self.seed = tokenizer, seed

    @classmethod
    def from_config(cls, config: PipelineConfig, inputs: list[str]) -> Self:
        compose, chains = config.block(PromptComposeOptions), config.block(ChainOptions)
        return cls(config.block(FillOptions), compose, chains, config.tokenizer, config.seed)

    def settings(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "tokenizer": self.tokenizer,
            **self.block_settings(self.compose, "compose"),
            **self.block_settings(self.chains, "chains"),
            **self.block_settings(self.options),
        }

    def check_before_run(self) -> None:
        prompt_counter(self.tokenizer)

    def open(self, store: Store) -> None:
        questions = []
        for part in store.parts("questions"):
            questions += [document["questions"]["question"] for document in store.documents(part, ("questions",))]
        haystack = Haystack(store.root / "haystack" / "passages")
        counter = prompt_counter(self.tokenizer)
        chains = self.chains if self.options.keychain_share else None
        self.composer = PromptComposer(haystack, counter, self.compose, chains, questions, self.seed)

    def rows(self, store: Store, part: str, documents: list[Document]) -> Iterator[Row]:
        for document in documents:
            yield self._row(document)

    def _row(self, document: Document) -> Row:
        row, places = document["questions"], document["haystack"]
        question = PlacedQuestion(
            row["id"], row["question"], tuple(row["answers"]), tuple(places["own"]), tuple(places["gold"])
        )
        # A seed is a uniform number below 2**31, so this decides each question by itself, in any order and process.
        hidden = derive_seed(self.seed, "kind", row["id"]) < self.options.keychain_share * 2**31
        try:
            prompt = self.composer.keychain(question) if hidden else self.composer.plain(question)
        except Unfillable as error:
            return dropped_row(row["id"], error.reason, str(error))
        if hidden:
            prove_chain(prompt, row["question"])
        kind = "keychain" if hidden else "plain"
        return {"id": row["id"], "kind": kind, **prompt.row_fields(kind)}


def prove_chain(prompt: ComposedPrompt, question: str) -> None:
    """Raise UnsoundChain unless the prompt's keys lead to this question, and no other chain leads to it."""
    solution = solve_chain(prompt.text)
    if solution.question != question or solution.keys != prompt.keys:
        raise UnsoundChain(f"the chain leads to {solution.question!r} by {solution.keys}, not to {question!r}")
