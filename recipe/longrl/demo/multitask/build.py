"""The multi-task world's build, which TMN-Reweight is compared with plain GRPO on, and the teacher of its warm start.

The teacher decides correctly with probability `care`. It takes the next step of a path or names a random color; it
lists the next room or stops; it takes the color that a place has now or had before; it writes down the earliest
remaining day or rank or any of those that remain. So the student's answers are partly correct, in each task by another
metric.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import ClassVar

from transformers import PreTrainedTokenizerFast
from verl_longrl.data.schema import Sample

from recipe.longrl.demo.assets import Demonstration, WarmStartStage, WorldBuild, draw_steps, follow_path, in_steps
from recipe.longrl.demo.circuits import Circuits
from recipe.longrl.demo.multitask import dataset
from recipe.longrl.demo.multitask.dataset import QUESTIONS, facts, list_response, path_response, question
from recipe.longrl.demo.multitask.world import MultitaskDocument, MultitaskWorld, documents
from recipe.longrl.demo.tokenizer import build_tokenizer

SHORT = MultitaskWorld(chatter=0, paths=2)
CAREFUL = dict.fromkeys(QUESTIONS, 0.95)
CARELESS = {"retrieval": 0.7, "exhaustive": 0.6, "matching": 0.5, "ordering": 0.3, "ranking": 0.3}
ROUNDS = 3
"""Prompts of each task about a text."""


@dataclass(frozen=True)
class MultitaskStage(WarmStartStage):
    """A stage with a teacher of this `care`, by task."""

    world: MultitaskWorld
    care: Mapping[str, float]


@dataclass(frozen=True)
class MultitaskBuild(WorldBuild):
    """Samples of each task in the training and the held-out file, and the warm start.

    A fact is looked up one word back, or two words back over "is" and "was". The subject of a question comes after
    "of", and is the first word after `<think>`.
    """

    circuits: ClassVar[Circuits] = Circuits(offsets=(1, 2), alike=(("of", "<think>"),))
    train_samples: int = 512
    val_samples: int = 64
    world: MultitaskWorld = field(default_factory=MultitaskWorld)
    warm_start: tuple[MultitaskStage, ...] = (
        MultitaskStage(60, 4, SHORT, CAREFUL),
        MultitaskStage(240, 4, MultitaskWorld(), CAREFUL),
        MultitaskStage(60, 4, MultitaskWorld(), CARELESS),
    )

    def tokenizer(self) -> PreTrainedTokenizerFast:
        return build_tokenizer([dataset.fixed_wording()])

    def files(self) -> Iterator[tuple[str, Iterator[Sample]]]:
        for split, count in (("train", self.train_samples), ("val", self.val_samples)):
            yield split, dataset.samples(self.world, count, split, str(self.seed))

    def draw(self, stage: MultitaskStage, seed: str) -> Iterator[Sequence[MultitaskDocument]]:
        return in_steps(documents(stage.world, seed), stage)

    def teach(self, rng: random.Random, document: MultitaskDocument, stage: MultitaskStage) -> Iterator[Demonstration]:
        for path in islice(cycle(document.paths), ROUNDS):
            for task in QUESTIONS:
                response = demonstrate(rng, task, document, path, stage.care[task])
                yield dataset.prompt(document, question(task, path)), response


def demonstrate(rng: random.Random, task: str, document: MultitaskDocument, path: Sequence[str], care: float) -> str:
    """A response that decides correctly with probability `care` at each step."""
    if task == "retrieval":
        return path_response(follow_path(rng, path, document.colors, care))
    stated = facts(task, document)
    match task:
        case "exhaustive":
            lines = dataset.answer_lines(stated)[: draw_steps(rng, len(stated), care)]
        case "matching":
            chosen = {place: (stated if rng.random() < care else document.before)[place] for place in stated}
            lines = dataset.answer_lines(chosen)
        case _:
            lines = _order(rng, dataset.answer_lines(stated), care)
    return list_response(question(task, path), lines)


def _order(rng: random.Random, lines: Sequence[str], care: float) -> list[str]:
    """The lines, where each is the first of those that remain with probability `care`, otherwise any of them."""
    remaining, order = list(lines), []
    while remaining:
        order.append(remaining.pop(0 if rng.random() < care else rng.randrange(len(remaining))))
    return order
