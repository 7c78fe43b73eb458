"""Build the data, tokenizer and warm-started model of a demo world from one seed.

    DIR/train.parquet, DIR/val.parquet, ...  samples of the project's schema
    DIR/model/                               warm-started Qwen3 model and its tokenizer, a Hugging Face folder
    DIR/build.json                           the marker: hash of the configuration, sizes, loss of the warm start

The folder is built under another name and renamed, so it is complete or absent. A folder whose marker has the same hash
is kept, a folder with a different hash is replaced, and a folder that is not a build is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM
from verl_longrl.data.prompt_lengths import PromptCounter
from verl_longrl.data.schema import Message, Sample, write_samples

from recipe.longrl.demo import model
from recipe.longrl.demo.circuits import Circuits
from recipe.longrl.demo.warm_start import Lesson, warm_start

MARKER = "build.json"
FORMAT = 4
"""Raise it when the same configuration would build something different, so that old builds are replaced."""

Demonstration = tuple[list[Message], str]
"""A prompt, and the response that a teacher gives to it."""

console = Console(stderr=True)


@dataclass(frozen=True)
class WarmStartStage:
    """`steps` of `documents_per_step` fresh documents from `world`; each world adds how its teacher behaves."""

    steps: int
    documents_per_step: int
    world: Any


@dataclass(frozen=True)
class WorldBuild(ABC):
    """Everything that a build depends on; each world has its own subclass.

    A subclass sets `warm_start` to its stages, each with a number of `steps`, and `circuits` to the model's induction
    heads. The class name and all fields are part of the hash.
    """

    circuits: ClassVar[Circuits]
    seed: int = 0
    warm_start: tuple[Any, ...] = ()

    @property
    def hash(self) -> str:
        identity = [FORMAT, type(self).__name__, asdict(self)]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def steps(self) -> int:
        """Steps of the warm start."""
        return sum(stage.steps for stage in self.warm_start)

    @abstractmethod
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer of this world."""

    @abstractmethod
    def files(self) -> Iterable[tuple[str, Iterator[Sample]]]:
        """Names of parquet files, without the ending, and their samples; the lengths of prompts are added later."""

    @abstractmethod
    def draw(self, stage: Any, seed: str) -> Iterator[Sequence[Any]]:
        """The documents of each step of a warm-start stage."""

    @abstractmethod
    def teach(self, rng: random.Random, document: Any, stage: Any) -> Iterator[Demonstration]:
        """Demonstrate responses to prompts about a document."""

    def lessons(self) -> Iterator[list[Lesson]]:
        """The lessons of every step of the warm start."""
        rng = random.Random(f"longrl-teacher-{self.seed}")
        for number, stage in enumerate(self.warm_start):
            for documents in self.draw(stage, f"warm-start-{self.seed}-{number}"):
                yield [Lesson(*zip(*self.teach(rng, document, stage), strict=True)) for document in documents]


def in_steps(documents: Iterator[Any], stage: WarmStartStage) -> Iterator[list[Any]]:
    """The documents of each step of a stage."""
    for _ in range(stage.steps):
        yield list(islice(documents, stage.documents_per_step))


def draw_steps(rng: random.Random, most: int, patience: float) -> int:
    """How far a teacher gets, from 1 to `most`, who takes each further step with probability `patience`."""
    reached = 1
    while reached < most and rng.random() < patience:
        reached += 1
    return reached


def follow_path(rng: random.Random, path: Sequence[str], ends: Sequence[str], patience: float) -> list[str]:
    """A path as far as a teacher of this patience follows it; if that is not to its end, then with a random end."""
    reached = draw_steps(rng, len(path), patience)
    return list(path) if reached == len(path) else [*path[:reached], rng.choice(ends)]


def build_assets(config: WorldBuild, output: Path) -> Path:
    """Build `config` into `output` unless it is there already; returns `output`.

    Raises:
        FileExistsError: `output` contains files that are not of a build.
    """
    marker = read_marker(output)
    if marker and marker["hash"] == config.hash:
        console.print(f"{output}: complete, nothing to do")
        return output
    if other_files := _find_other_files(output, marker):
        raise FileExistsError(f"{output} contains {other_files[0]}, which no build wrote. Fix: name a new folder")
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    try:
        _write_assets(config, partial)
        # Another process may have finished the same build meanwhile, and may already be using it.
        if (marker := read_marker(output)) and marker["hash"] == config.hash:
            return output
        if output.exists():
            shutil.rmtree(output)
        os.replace(partial, output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return output


def read_marker(output: Path) -> dict | None:
    """The marker of a complete build in `output`, or None."""
    path = output / MARKER
    marker = json.loads(path.read_text()) if path.exists() else None
    return marker if isinstance(marker, dict) and {"hash", "rows"} <= marker.keys() else None


def _find_other_files(output: Path, marker: dict | None) -> list[str]:
    """Names in the folder that are not of the build that its marker describes."""
    names = {MARKER, "model", *(f"{name}.parquet" for name in marker["rows"])} if marker else set()
    return sorted(path.name for path in output.iterdir() if path.name not in names) if output.exists() else []


def _write_assets(config: WorldBuild, folder: Path) -> None:
    tokenizer = config.tokenizer()
    rows = {}
    for name, samples in config.files():
        rows[name] = write_samples(folder / f"{name}.parquet", add_lengths(tokenizer, samples))
    policy = model.build_model(tokenizer, config.circuits, config.seed)
    losses = train(policy, tokenizer, config)
    model.save_model(policy, tokenizer, folder / "model")
    marker = {
        "hash": config.hash,
        "config": asdict(config),
        "rows": rows,
        "parameters": policy.num_parameters(),
        "vocabulary": len(tokenizer),
        "warm_start_loss": {"first": losses[0], "last": losses[-1]},
    }
    (folder / MARKER).write_text(json.dumps(marker, indent=2) + "\n")


def add_lengths(tokenizer: PreTrainedTokenizerFast, samples: Iterable[Sample]) -> Iterator[Sample]:
    """The samples with the lengths of their prompts in tokens."""
    counter = PromptCounter(tokenizer)
    for sample in samples:
        length = counter.count([sample.prompt])[0]
        yield replace(sample, prompt_tokens=length, tokenizer_fingerprint=counter.fingerprint)


def train(policy: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, config: WorldBuild) -> list[float]:
    """Warm-start `policy` in place, with a progress line; returns the losses."""
    columns = (
        TextColumn("warm start"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}  loss {task.fields[loss]:.3f}"),
    )
    with Progress(*columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=config.steps, loss=float("nan"))

        def on_step(step: int, loss: float) -> None:
            progress.update(bar, completed=step, loss=loss)
            # A log file gets ten lines instead of a bar.
            if progress.disable and step % (config.steps // 10 or 1) == 0:
                console.print(f"warm start {step}/{config.steps}  loss {loss:.3f}")

        return warm_start(policy, tokenizer, config.lessons(), config.steps, on_step=on_step)
