"""Build everything the no-GPU run needs, from one seed: `python -m recipe.longrl.demo.build --output DIR`.

    DIR/train.parquet, DIR/val.parquet   samples of the project's schema, split by document
    DIR/model/                           warm-started Qwen3 model and its tokenizer, a Hugging Face folder
    DIR/build.json                       the marker: hash of what was asked for, sizes, warm-start loss

The folder is made aside and renamed, so it is complete or absent. A folder whose marker carries the same hash is
left as it is; one with another hash is replaced; a folder that is no build of ours is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM
from verl_longrl.data.schema import write_samples

from recipe.longrl.demo import dataset, model, tokenizer, warm_start, world

MARKER = "build.json"
FORMAT = 3
"""Raise it when the same configuration would build something else, so that old builds are replaced."""

app = typer.Typer(add_completion=False)
console = Console(stderr=True)


@dataclass(frozen=True)
class BuildConfig:
    """Everything a build depends on."""

    seed: int = 0
    train_documents: int = 2048
    val_documents: int = 128
    world: world.WorldConfig = field(default_factory=world.WorldConfig)
    warm_start: warm_start.WarmStartConfig = field(default_factory=warm_start.WarmStartConfig)

    @property
    def hash(self) -> str:
        return hashlib.sha256(json.dumps([FORMAT, asdict(self)], sort_keys=True).encode()).hexdigest()[:16]


def build(config: BuildConfig, output: Path) -> Path:
    """Build `config` into `output` unless it is there already; returns `output`.

    Raises:
        FileExistsError: `output` holds something that is not a build.
    """
    found = marker(output)
    if found and found["hash"] == config.hash:
        console.print(f"{output}: complete, nothing to do")
        return output
    if not found and output.exists() and any(output.iterdir()):
        raise FileExistsError(f"{output} is not empty and has no {MARKER}; name a new folder or empty this one")
    output.parent.mkdir(parents=True, exist_ok=True)
    aside = output.with_name(f".{output.name}.{os.getpid()}.partial")
    try:
        _build(config, aside)
        if output.exists():
            shutil.rmtree(output)
        os.replace(aside, output)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return output


def marker(output: Path) -> dict | None:
    """The marker of a complete build in `output`, or None."""
    path = output / MARKER
    return json.loads(path.read_text()) if path.exists() else None


def _build(config: BuildConfig, folder: Path) -> None:
    words = tokenizer.build([dataset.frame()])
    counts = {}
    for split, count in (("train", config.train_documents), ("val", config.val_documents)):
        drawn = world.documents(config.world, count, f"{split}-{config.seed}")
        counts[split] = write_samples(folder / f"{split}.parquet", dataset.samples(words, drawn, split))
    policy = model.build(words, config.seed)
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
    total = config.warm_start.steps
    with Progress(*columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=total, loss=float("nan"))

        def on_step(step: int, value: float) -> None:
            progress.update(bar, completed=step, loss=value)
            if progress.disable and step % (total // 10 or 1) == 0:  # a log file gets lines
                console.print(f"warm start {step}/{total}  loss {value:.3f}")

        return warm_start.warm_start(policy, words, config.warm_start, config.seed, on_step)


@app.command()
def main(
    output: Annotated[Path, typer.Option(help="Folder to build; made or replaced as a whole.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same documents and weights.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads of the warm start; 0 leaves torch's choice.")] = 0,
) -> None:
    """Build the demo's data, tokenizer and warm-started model."""
    if threads:
        torch.set_num_threads(threads)
    build(BuildConfig(seed=seed), output)


if __name__ == "__main__":
    app()
