"""Runs of a data pipeline by its command line, and of one of its stages on a single document."""

import asyncio
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import typer
from support.command_line import call
from verl_longrl.data.schema import Sample, read_samples

from data_gen.llm import LLMOptions
from data_gen.llm_stage import LLMStage
from data_gen.store import Document, Row, Store

SPLITS = ("train", "val")


def run_pipeline(app: typer.Typer, arguments: Iterable[object], code: int = 0) -> str:
    """Run a command, which must end with this status and without a traceback. Returns all that it prints."""
    status, printed = call(app, arguments)
    assert status == code, printed
    assert "Traceback" not in printed
    return printed


def start_pipeline(name: str, arguments: Iterable[object], **options) -> subprocess.Popen:
    """A process of its own that runs `python -m data_gen.NAME`. options: of Popen."""
    return subprocess.Popen([sys.executable, "-m", f"data_gen.{name}", *map(str, arguments)], **options)


def run_ranks(name: str, arguments: Iterable[object], ranks: int) -> None:
    """Run a pipeline in several processes, all of which must succeed."""
    shared = (*arguments, "--world-size", ranks, "--rank")
    processes = [start_pipeline(name, (*shared, rank)) for rank in range(ranks)]
    assert [process.wait(300) for process in processes] == [0] * ranks


def training_files(output: Path) -> dict[str, bytes]:
    """The bytes of the files that a pipeline has exported."""
    return {split: (output / f"{split}.parquet").read_bytes() for split in SPLITS}


def training_samples(output: Path) -> list[Sample]:
    """The samples of both files."""
    return [sample for split in SPLITS for sample in read_samples(output / f"{split}.parquet")]


def servers_at(url: str, names: Iterable[str]) -> dict[str, LLMOptions]:
    """Servers by name, all at one address, where each request says in `who` which of them was meant."""
    options = {"endpoints": (url,), "model": "judge", "attempts": 2, "cooldown_s": 0.0}
    return {name: LLMOptions(**options, extra_body={"who": name}) for name in names if name}


def row_of(stage: LLMStage, folder: Path, document: Document) -> Row:
    """The row that a stage makes of a document, with a store in `folder`."""

    async def make() -> Row:
        try:
            await stage.open(Store(folder, "dedup"))
            stage.enter_part("0")
            return await stage.row(document)
        finally:
            await stage.close()

    return asyncio.run(make())
