"""A tiny world of long documents whose questions need several pieces of evidence at once.

A document is a list of chunks. Some chunks contain a fact ("lamp amber"), the others only chatter, which may also come
before a fact. A question names one or several keys whose facts are in different chunks, and its answer is all their
values in the order of the question. It is correct only when every evidence chunk was found, which is the case that
LongRLVR's Proposition 1 is about. Every key appears once in a document, and its value is drawn for each document, so
that nothing can be answered without reading.

Everything is a function of `(GroundedWorld, seed)`. Documents, not questions, are split into train and val.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from recipe.longrl.demo.words import KEYS, VALUES, chatter

CHATTER_SHARE_OF_FACT_CHUNKS = 0.4
"""Share of the chunks with a fact that have a sentence of chatter before it."""


@dataclass(frozen=True)
class GroundedWorld:
    """Sizes of the documents."""

    lengths: tuple[tuple[int, float], ...] = ((8, 2.0), (12, 3.0), (16, 3.0), (24, 2.0), (40, 0.7), (64, 0.3))
    """(number of chunks, weight); drawn for each document."""
    evidence: tuple[tuple[int, float], ...] = ((2, 1.0), (3, 1.0))
    """(number of evidence chunks, weight); drawn for each question."""
    questions_per_document: int = 1
    max_facts: int = 24
    """Most facts in a document; half of a shorter document's chunks contain one."""


@dataclass(frozen=True)
class Fact:
    """The value of a key, which chunk number `chunk` states."""

    key: str
    value: str
    chunk: int


@dataclass(frozen=True)
class Question:
    """A question about a document; `evidence` lists the facts in the order of the question."""

    text: str
    evidence: tuple[Fact, ...]

    @property
    def answer(self) -> str:
        return " ".join(fact.value for fact in self.evidence)

    @property
    def ref_chunks(self) -> list[int]:
        """Ids of the evidence chunks, ascending."""
        return sorted({fact.chunk for fact in self.evidence})


@dataclass(frozen=True)
class GroundedDocument:
    """The texts of the chunks, the facts in them (at most one per chunk), and questions about the document."""

    chunks: tuple[str, ...]
    facts: tuple[Fact, ...]
    questions: tuple[Question, ...]


def make_question(evidence: Sequence[Fact]) -> Question:
    """The question whose answer is the values of `evidence`, in that order."""
    return Question(f"colors of {' '.join(f'- {fact.key}' for fact in evidence)} ?", tuple(evidence))


def response(question: Question, quoted: Sequence[Fact] | None = None) -> str:
    """The text after `<think>`: quote facts, cite their chunks, answer with their values.

    Args:
        quoted: the facts to quote; all of the evidence by default (the gold response).
    """
    facts = question.evidence if quoted is None else tuple(quoted)
    quotes = " ".join(f"- {fact.key} {fact.value} <CHUNK_{fact.chunk}>" for fact in facts)
    cited = " ".join(f"<CHUNK_{fact.chunk}>" for fact in facts)
    answer = " ".join(fact.value for fact in facts)
    return f"{quotes} done . </think> <useful_chunks> {cited} </useful_chunks> <answer> {answer} </answer>"


def documents(config: GroundedWorld, seed: int | str) -> Iterator[GroundedDocument]:
    """Documents without end; the same `(config, seed)` gives the same documents."""
    rng = random.Random(f"longrl-demo-{seed}")
    while True:
        yield _document(rng, config)


def _document(rng: random.Random, config: GroundedWorld) -> GroundedDocument:
    size = _pick(rng, config.lengths)
    most_evidence = max(number for number, _ in config.evidence)
    count = max(most_evidence, min(config.max_facts, size // 2))
    if count > min(size, len(KEYS)):
        raise ValueError(f"a document of {size} chunks cannot hold {count} facts with distinct keys, one per chunk")
    holders = sorted(rng.sample(range(size), count))
    keys, values = rng.sample(KEYS, count), rng.sample(VALUES, count)
    facts = tuple(Fact(k, v, c) for k, v, c in zip(keys, values, holders, strict=True))
    by_chunk = {fact.chunk: fact for fact in facts}
    chunks = tuple(_chunk(rng, by_chunk.get(index)) for index in range(size))
    questions = tuple(
        make_question(rng.sample(facts, _pick(rng, config.evidence))) for _ in range(config.questions_per_document)
    )
    return GroundedDocument(chunks, facts, questions)


def _chunk(rng: random.Random, fact: Fact | None) -> str:
    talk = chatter(rng)
    if fact is None:
        return talk
    statement = f"{fact.key} {fact.value}"
    return f"{talk} {statement}" if rng.random() < CHATTER_SHARE_OF_FACT_CHUNKS else statement


def _pick(rng: random.Random, weighted: Sequence[tuple[int, float]]) -> int:
    return rng.choices([item for item, _ in weighted], [weight for _, weight in weighted])[0]
