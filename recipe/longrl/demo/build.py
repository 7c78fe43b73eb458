"""`python -m recipe.longrl.demo.build WORLD --output DIR`: build the assets of a demo world (`assets.py`)."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import torch
import typer

from recipe.longrl.demo.assets import build_assets
from recipe.longrl.demo.grounded.build import GroundedBuild
from recipe.longrl.demo.keychain.build import KeychainBuild
from recipe.longrl.demo.multitask.build import MultitaskBuild


class World(StrEnum):
    grounded = "grounded"
    keychain = "keychain"
    multitask = "multitask"


BUILDS = {World.grounded: GroundedBuild, World.keychain: KeychainBuild, World.multitask: MultitaskBuild}

app = typer.Typer(add_completion=False)


@app.command()
def main(
    world: Annotated[World, typer.Argument(help="The world to build.")],
    output: Annotated[Path, typer.Option(help="Output folder; written or replaced as a whole.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same documents and weights.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads of the warm start; 0: torch's default.")] = 0,
) -> None:
    """Build a demo's data, tokenizer and warm-started model."""
    if threads:
        torch.set_num_threads(threads)
    build_assets(BUILDS[world](seed=seed), output)


if __name__ == "__main__":
    app()
