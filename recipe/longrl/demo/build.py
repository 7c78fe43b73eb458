"""Build everything a no-GPU run needs, from one seed: `python -m recipe.longrl.demo.build WORLD --output DIR`.

    DIR/train.parquet, DIR/val.parquet, ...  samples of the project's schema
    DIR/model/                               warm-started Qwen3 model and its tokenizer, a Hugging Face folder
    DIR/build.json                           the marker: hash of what was asked for, sizes, warm-start loss

The folder is made aside and renamed, so it is complete or absent. A folder whose marker carries the same hash is
left as it is; one with another hash is replaced; a folder that is no build of ours is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM
from verl_longrl.data.schema import Sample, write_samples

from recipe.longrl.demo import model
from recipe.longrl.demo.circuits import Circuits
from recipe.longrl.demo.warm_start import Lesson, warm_start

MARKER = "build.json"
FORMAT = 4
"""Raise it when the same configuration would build something else, so that old builds are replaced."""

app = typer.Typer(add_completion=False)
console = Console(stderr=True)


@dataclass(frozen=True)
class BuildConfig(ABC):
    """Everything a build depends on; each world has its own."""

    circuits: ClassVar[Circuits]
    seed: int = 0

    @property
    def hash(self) -> str:
        asked = [FORMAT, type(self).__name__, asdict(self)]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]

    @abstractmethod
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer of this world."""

    @abstractmethod
    def files(self, words: PreTrainedTokenizerFast) -> Iterable[tuple[str, Iterator[Sample]]]:
        """Names of parquet files, without the ending, and their samples."""

    @property
    @abstractmethod
    def steps(self) -> int:
        """Steps of the warm start."""

    @abstractmethod
    def lessons(self) -> Iterator[Sequence[Lesson]]:
        """The lessons of every step."""


def build(config: BuildConfig, output: Path) -> Path:
    """Build `config` into `output` unless it is there already; returns `output`.

    Raises:
        FileExistsError: `output` holds something that is not a build.
    """
    found = marker(output)
    if found and found["hash"] == config.hash:
        console.print(f"{output}: complete, nothing to do")
        return output
    if foreign := _foreign(output, found):
        raise FileExistsError(
            f"{output} is not empty, and no build made {foreign[0]} in it; name a new folder, or move that away"
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    aside = output.with_name(f".{output.name}.{os.getpid()}.partial")
    try:
        _build(config, aside)
        if (found := marker(output)) and found["hash"] == config.hash:  # another process was quicker, and may use it
            return output
        if output.exists():
            shutil.rmtree(output)
        os.replace(aside, output)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return output


def marker(output: Path) -> dict | None:
    """The marker of a complete build in `output`, or None."""
    path = output / MARKER
    found = json.loads(path.read_text()) if path.exists() else None
    return found if isinstance(found, dict) and {"hash", "rows"} <= found.keys() else None


def _foreign(output: Path, found: dict | None) -> list[str]:
    """What is in the folder beside the build that its marker tells of."""
    ours = {MARKER, "model", *(f"{name}.parquet" for name in found["rows"])} if found else set()
    return sorted(path.name for path in output.iterdir() if path.name not in ours) if output.exists() else []


def _build(config: BuildConfig, folder: Path) -> None:
    words = config.tokenizer()
    counts = {name: write_samples(folder / f"{name}.parquet", samples) for name, samples in config.files(words)}
    policy = model.build(words, config.circuits, config.seed)
    losses = train(policy, words, config)
    model.save(policy, words, folder / "model")
    facts = {
        "hash": config.hash,
        "config": asdict(config),
        "rows": counts,
        "parameters": policy.num_parameters(),
        "vocabulary": len(words),
        "warm_start_loss": {"first": losses[0], "last": losses[-1]},
    }
    (folder / MARKER).write_text(json.dumps(facts, indent=2) + "\n")


def train(policy: Qwen3ForCausalLM, words: PreTrainedTokenizerFast, config: BuildConfig) -> list[float]:
    """Warm-start `policy` in place, with a progress line; returns the losses."""
    columns = (
        TextColumn("warm start"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}  loss {task.fields[loss]:.3f}"),
    )
    with Progress(*columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=config.steps, loss=float("nan"))

        def on_step(step: int, value: float) -> None:
            progress.update(bar, completed=step, loss=value)
            if progress.disable and step % (config.steps // 10 or 1) == 0:  # a log file gets lines
                console.print(f"warm start {step}/{config.steps}  loss {value:.3f}")

        return warm_start(policy, words, config.lessons(), config.steps, on_step=on_step)


class World(StrEnum):
    grounded = "grounded"
    keychain = "keychain"
    multitask = "multitask"


@app.command()
def main(
    world: Annotated[World, typer.Argument(help="Which world.")],
    output: Annotated[Path, typer.Option(help="Folder to build; made or replaced as a whole.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same documents and weights.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads of the warm start; 0 leaves torch's choice.")] = 0,
) -> None:
    """Build a demo's data, tokenizer and warm-started model."""
    from recipe.longrl.demo.grounded.build import GroundedBuild
    from recipe.longrl.demo.keychain.build import KeychainBuild
    from recipe.longrl.demo.multitask.build import MultitaskBuild

    if threads:
        torch.set_num_threads(threads)
    builds = {World.grounded: GroundedBuild, World.keychain: KeychainBuild, World.multitask: MultitaskBuild}
    build(builds[world](seed=seed), output)


if __name__ == "__main__":
    app()
