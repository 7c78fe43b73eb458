"""Rows of the demo's grounded world, with the lengths of their prompts."""

from itertools import islice
from pathlib import Path

from verl_longrl.data.schema import write_samples

from recipe.longrl.demo.assets import add_lengths
from recipe.longrl.demo.grounded import dataset, world
from recipe.longrl.demo.grounded.build import GroundedBuild


def write_demo_rows(file: Path, count: int, split: str = "train") -> None:
    """Write a parquet file with a row for each of the first `count` documents of a split."""
    build = GroundedBuild()
    samples = dataset.samples(islice(world.documents(build.world, split), count), split)
    write_samples(file, add_lengths(build.tokenizer(), samples))
