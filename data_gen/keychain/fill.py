"""Stage fill: each question becomes a prompt of the wanted length, asked openly or behind chains; every chain is
proven.

The proof (`chain_solver.py`) reads nothing but the finished text. A prompt that it does not lead to the question, by
the very keys it was made of, would be a defect of this program and ends the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from verl_longrl.rewards.options import Options, number

from data_gen.export_stage import prompt_counter
from data_gen.keychain.chain_solver import UnsoundChain, solve_chain
from data_gen.keychain.chains import ChainOptions
from data_gen.keychain.passage_pool import Haystack
from data_gen.keychain.prompt_composer import Asked, Composed, ComposeOptions, Composer, Unfillable
from data_gen.pipeline import PartStage
from data_gen.store import Document, Row, Store, drop
from data_gen.text import derive_seed


@dataclass(frozen=True)
class FillOptions(Options):
    """keychain_share: of the questions, how many are hidden behind chains; the others are asked openly (published: half
    and half, no question in both)."""

    keychain_share: float = 0.5

    def __post_init__(self) -> None:
        number("fill.keychain_share", self.keychain_share, 0, 1)


class Fill(PartStage):
    """Row: `kind` (keychain, plain), `prompt`, `prompt_tokens`, `passages`, `gold_at`, `keys`. Drops: too_long,
    no_filling (no passages for the room that is left)."""

    name = "fill"
    after = ("questions", "haystack", "filter")

    def __init__(self, options: FillOptions, compose: ComposeOptions, chains: ChainOptions, tokenizer: str, seed: int):
        self.options, self.compose, self.chains = options, compose, chains
        self.tokenizer, self.seed = tokenizer, seed

    def settings(self) -> dict[str, Any]:
        blocks = {
            f"{block}.{key}": value
            for block, options in (("compose", self.compose), ("chains", self.chains))
            for key, value in vars(options).items()
        }
        return {"seed": self.seed, "tokenizer": self.tokenizer, **blocks, **self.named(self.options)}

    def check(self) -> None:
        prompt_counter(self.tokenizer)

    def open(self, store: Store) -> None:
        parts = store.parts("questions")
        questions = [d["questions"]["question"] for part in parts for d in store.documents(part, ("questions",))]
        haystack = Haystack(store.root / "haystack" / "passages")
        counter = prompt_counter(self.tokenizer)
        chains = self.chains if self.options.keychain_share else None
        self.composer = Composer(haystack, counter, self.compose, chains, questions, self.seed)

    def rows(self, store: Store, part: str, documents: list[Document]) -> Iterator[Row]:
        for document in documents:
            yield self._row(document)

    def _row(self, document: Document) -> Row:
        row, places = document["questions"], document["haystack"]
        asked = Asked(row["id"], row["question"], tuple(row["answers"]), tuple(places["own"]), tuple(places["gold"]))
        hidden = derive_seed(self.seed, "kind", row["id"]) < self.options.keychain_share * 2**31
        try:
            made = self.composer.keychain(asked) if hidden else self.composer.plain(asked)
        except Unfillable as error:
            return drop(row["id"], error.reason, str(error))
        if hidden:
            prove(made, row["question"])
        kind = "keychain" if hidden else "plain"
        return {
            "id": row["id"],
            "kind": kind,
            "prompt": made.text,
            "prompt_tokens": made.tokens,
            "passages": made.passages,
            "gold_at": made.gold_at,
            "keys": made.keys,
            "counts": {f"{kind} prompts": 1, "prompt tokens": made.tokens},
        }


def prove(made: Composed, question: str) -> None:
    """Raises UnsoundChain when the prompt does not lead to the question, and to it alone, by its own keys."""
    solution = solve_chain(made.text)
    if solution.question != question or solution.keys != made.keys:
        raise UnsoundChain(f"the chain leads to {solution.question!r} by {solution.keys}, not to {question!r}")
