"""The grounded world's build, which `bash run_longrl.sh` trains on, and the teacher of its warm start.

The teacher is impatient: it quotes the first fact that a question asks for, quotes each further fact with probability
`patience`, and then cites and answers with the facts that it quoted. The student therefore writes well-formed responses
and looks up facts correctly, but rarely gathers all the evidence: with k needed chunks, about `patience ** (k - 1)` of
its answers are complete.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import ClassVar

from transformers import PreTrainedTokenizerFast
from verl_longrl.data.schema import Sample

from recipe.longrl.demo.assets import Demonstration, WarmStartStage, WorldBuild, draw_steps, in_steps
from recipe.longrl.demo.circuits import Circuits
from recipe.longrl.demo.grounded import dataset
from recipe.longrl.demo.grounded.world import GroundedDocument, GroundedWorld, Question, documents, response
from recipe.longrl.demo.tokenizer import MAX_CHUNKS, build_tokenizer

SHORT = GroundedWorld(lengths=((8, 1.0),), evidence=((1, 1.0), (2, 1.0), (4, 1.0)), questions_per_document=16)
MIXED = GroundedWorld(
    lengths=((8, 3.0), (12, 3.0), (16, 2.0), (24, 1.0), (40, 0.5), (64, 0.25)),
    evidence=((1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 1.0)),
    questions_per_document=16,
)


@dataclass(frozen=True)
class GroundedStage(WarmStartStage):
    """A stage with a teacher of this `patience`."""

    world: GroundedWorld
    patience: float


def warm_start_stages(patience: float) -> tuple[GroundedStage, ...]:
    """A patient teacher on short and then on long documents teaches to look up facts; an impatient one comes last."""
    return (
        GroundedStage(160, 4, SHORT, 0.9),
        GroundedStage(260, 4, MIXED, 0.9),
        GroundedStage(80, 4, MIXED, patience),
    )


@dataclass(frozen=True)
class GroundedBuild(WorldBuild):
    """Documents of the training and the held-out file, with one question each.

    A quote (`- key value <CHUNK_i>`) has four words, so attending four tokens back goes from the value or chunk of one
    quote to that of the next.
    """

    circuits: ClassVar[Circuits] = Circuits(
        offsets=(1, 4),
        alike=tuple((f"<CHUNK_{number}>", f"</CHUNK_{number}>") for number in range(MAX_CHUNKS)),
    )
    train_documents: int = 2048
    val_documents: int = 128
    world: GroundedWorld = field(default_factory=GroundedWorld)
    warm_start: tuple[GroundedStage, ...] = warm_start_stages(patience=0.2)

    def tokenizer(self) -> PreTrainedTokenizerFast:
        return build_tokenizer([dataset.fixed_wording()])

    def files(self) -> Iterator[tuple[str, Iterator[Sample]]]:
        for split, count in (("train", self.train_documents), ("val", self.val_documents)):
            yield split, dataset.samples(islice(documents(self.world, f"{split}-{self.seed}"), count), split)

    def draw(self, stage: GroundedStage, seed: str) -> Iterator[Sequence[GroundedDocument]]:
        return in_steps(documents(stage.world, seed), stage)

    def teach(self, rng: random.Random, document: GroundedDocument, stage: GroundedStage) -> Iterator[Demonstration]:
        for question in document.questions:
            yield dataset.prompt(document, question), demonstrate(rng, question, stage.patience)


def demonstrate(rng: random.Random, question: Question, patience: float) -> str:
    """A response that quotes each further fact with probability `patience`."""
    quoted = draw_steps(rng, len(question.evidence), patience)
    return response(question, question.evidence[:quoted])
