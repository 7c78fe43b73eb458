"""The KeyChain world's build, which the curriculum's CPU run trains on, and the teacher of its warm start.

At every look-up the teacher continues with probability `patience`; otherwise it answers with a random color of the
text. So the student can follow a chain to its end but rarely does: with h look-ups, about `patience ** h` of its
answers are correct.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import ClassVar

from transformers import PreTrainedTokenizerFast
from verl_longrl.data.schema import Sample

from recipe.longrl.demo.assets import Demonstration, WorldBuild, follow_path
from recipe.longrl.demo.circuits import Circuits
from recipe.longrl.demo.keychain import dataset
from recipe.longrl.demo.keychain.world import KeychainDocument, KeychainWorld, documents, identifiers
from recipe.longrl.demo.tokenizer import build_tokenizer

SHORT = (KeychainWorld(112), KeychainWorld(112), KeychainWorld(112), KeychainWorld(112, density=0.0))
MIXED = (
    *(KeychainWorld(112), KeychainWorld(176), KeychainWorld()),
    *(KeychainWorld(density=2.0), KeychainWorld(density=0.0)),
)
PROMPTS_PER_TEXT = 16


@dataclass(frozen=True)
class KeychainStage:
    """`steps` of one fresh text from each of `worlds`, with a teacher of this `patience`."""

    steps: int
    worlds: tuple[KeychainWorld, ...]
    patience: float


@dataclass(frozen=True)
class KeychainBuild(WorldBuild):
    """Number of texts in each file, and the warm start.

    plain, keychain, hard: training rows without chains, with chains, and with twice as many chains. val: held-out rows,
    with open and hidden questions of the training length and hidden questions of two and four times that length.

    A fact or pair is looked up two words back. The subject and the color that was found are five words before the place
    where they are repeated.
    """

    circuits: ClassVar[Circuits] = Circuits(offsets=(2, 5), reach=1200.0)
    world: KeychainWorld = field(default_factory=KeychainWorld)
    train_rows: int = 1024
    val_rows: int = 128
    warm_start: tuple[KeychainStage, ...] = (
        KeychainStage(140, SHORT, 0.95),
        KeychainStage(200, MIXED, 0.95),
        KeychainStage(60, MIXED, 0.75),
    )

    def tokenizer(self) -> PreTrainedTokenizerFast:
        return build_tokenizer([dataset.fixed_wording(), " ".join(identifiers())])

    def files(self) -> Iterator[tuple[str, Iterator[Sample]]]:
        train = {
            "plain": replace(self.world, density=0.0),
            "keychain": self.world,
            "hard": replace(self.world, density=2.0),
        }
        for name, world in train.items():
            yield name, dataset.samples(world, self.train_rows, "train", f"{self.seed}-{name}")
        yield "val", self._held_out()

    def _held_out(self) -> Iterator[Sample]:
        worlds = {"plain_1x": replace(self.world, density=0.0)}
        worlds |= {f"keychain_{times}x": replace(self.world, tokens=times * self.world.tokens) for times in (1, 2, 4)}
        for task, world in worlds.items():
            yield from dataset.samples(world, self.val_rows, "val", f"{self.seed}-{task}", task)

    def draw(self, stage: KeychainStage, seed: str) -> Iterator[Sequence[KeychainDocument]]:
        streams = [documents(world, f"{seed}-{at}") for at, world in enumerate(stage.worlds)]
        return islice(zip(*streams, strict=True), stage.steps)

    def teach(self, rng: random.Random, document: KeychainDocument, stage: KeychainStage) -> Iterator[Demonstration]:
        """A quarter of the prompts are open questions. Chains start from any of their keys, so that later look-ups are
        demonstrated as often as first ones."""
        keys = [key for chain in document.chains for key in chain]
        hidden = rng.sample(keys, min(len(keys), PROMPTS_PER_TEXT * 3 // 4))
        plain = rng.sample(document.things, min(len(document.things), PROMPTS_PER_TEXT - len(hidden)))
        for start in (*hidden, *plain):
            yield dataset.prompt(document, start, start in keys), demonstrate(rng, document, start, stage.patience)


def demonstrate(rng: random.Random, document: KeychainDocument, start: str, patience: float) -> str:
    """A response that gives up at each look-up with probability 1 - `patience`."""
    return dataset.response(follow_path(rng, document.path(start), document.colors, patience))
