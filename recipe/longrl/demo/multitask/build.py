"""The multi-task world's build: what TMN-Reweight is compared with plain GRPO on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from transformers import PreTrainedTokenizerFast
from verl_longrl.data.schema import Sample

from recipe.longrl.demo import tokenizer
from recipe.longrl.demo.build import BuildConfig
from recipe.longrl.demo.circuits import Circuits
from recipe.longrl.demo.multitask import dataset
from recipe.longrl.demo.multitask.lessons import Stage, lessons
from recipe.longrl.demo.multitask.world import WorldConfig
from recipe.longrl.demo.warm_start import Lesson

SHORT = WorldConfig(chatter=0, paths=2)
CAREFUL = dict.fromkeys(dataset.QUESTIONS, 0.95)
CARELESS = {"retrieval": 0.7, "exhaustive": 0.6, "matching": 0.5, "ordering": 0.3, "ranking": 0.3}


@dataclass(frozen=True)
class MultitaskBuild(BuildConfig):
    """Samples of each task in the training and the held-out file, and what the warm start teaches.

    A fact is looked up one word back, or two where "is" and "was" stand between. What is asked for stands behind "of",
    and comes first behind `<think>`.
    """

    circuits: ClassVar[Circuits] = Circuits(offsets=(1, 2), alike=(("of", "<think>"),))
    train_samples: int = 512
    val_samples: int = 64
    world: WorldConfig = field(default_factory=WorldConfig)
    warm_start: tuple[Stage, ...] = (
        Stage(60, 4, SHORT, CAREFUL),
        Stage(240, 4, WorldConfig(), CAREFUL),
        Stage(60, 4, WorldConfig(), CARELESS),
    )

    def tokenizer(self) -> PreTrainedTokenizerFast:
        return tokenizer.build([dataset.frame()])

    def files(self, words: PreTrainedTokenizerFast) -> Iterator[tuple[str, Iterator[Sample]]]:
        for split, count in (("train", self.train_samples), ("val", self.val_samples)):
            yield split, dataset.samples(words, self.world, count, split, str(self.seed))

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.warm_start)

    def lessons(self) -> Iterator[list[Lesson]]:
        return lessons(self.warm_start, self.seed)
