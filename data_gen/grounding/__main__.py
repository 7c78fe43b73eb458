"""Command line: python -m data_gen.grounding run --input DOCS --output DIR [--config FILE] [KEY=VALUE...]"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from verl_longrl.rewards.endpoints import EndpointError

from data_gen.grounding import card, config
from data_gen.grounding import show as viewer
from data_gen.grounding.config import PARTS_OF, STAGES
from data_gen.llm import ServersGone
from data_gen.store import Shard, Store, StoreError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
ERRORS = (ValueError, OSError, EndpointError, ServersGone)
"""What a user can put right: wrong values and files (our errors are ValueErrors), servers."""

Input = Annotated[list[str] | None, typer.Option(help="File, folder, or hf:NAME[:CONFIG[:SPLIT]]; may be repeated.")]
Output = Annotated[Path, typer.Option(help="Folder of the run. The same command continues what is in it.")]
Config = Annotated[Path | None, typer.Option(help="YAML file; all keys with their defaults: the command `config`.")]
Rank = Annotated[int, typer.Option(help="This process's number, 0 to world size - 1.")]
World = Annotated[int, typer.Option(help="Processes that share the work, each with its own --rank.")]
Redo = Annotated[str | None, typer.Option(help="Delete this stage and all after it first, to make them anew.")]
Patience = Annotated[float, typer.Option(help="Seconds to wait for other ranks while they add nothing.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Configuration keys.")]


def _run(
    stages: tuple[str, ...],
    inputs: list[str],
    output: Path,
    file: Path | None,
    overrides: list[str],
    rank: int,
    world_size: int,
    redo: str | None,
    patience_s: float,
) -> None:
    settings = config.load(file, overrides)
    store = Store(output, PARTS_OF, Shard(rank, world_size))
    with store.locked():
        if redo is not None:
            if redo not in STAGES:
                raise config.ConfigError(f"--redo {redo}: unknown stage; stages: {', '.join(STAGES)}")
            if world_size > 1:
                raise config.ConfigError(
                    f"--redo with --world-size > 1 would delete what other ranks make; run the command reset {redo} "
                    "once, then all ranks without --redo"
                )
        prepared = [settings.stage(name, inputs) for name in stages]
        again = STAGES[STAGES.index(redo) :] if redo else ()
        for stage in prepared:
            if stage.name in again or not store.done(stage.name):
                stage.check()
        if again:  # all that can be refused was refused
            _remove(store, again)
        for stage in prepared:
            name = stage.name
            stage.run(store, patience_s)
            print(card.line(store, name), flush=True)
            card.require_some(store, name)
        if stages[-1] == "export" and rank == 0:
            card.write(store, settings)
            Console().print(card.table(store))
            print(f"card     {output / 'README.md'}")
            for parquet in sorted(output.glob("*.parquet")):
                print(f"{parquet.stem:8} {parquet}")


def _remove(store: Store, stages: tuple[str, ...]) -> None:
    """Delete what these stages and all after them made; the replies of models stay."""
    store.remove(stages)
    for name in card.FILES:
        (store.root / name).unlink(missing_ok=True)


def _guarded(*arguments: object) -> None:
    """Run; what a user can put right becomes one message and exit code 1."""
    try:
        _run(*arguments)  # type: ignore[arg-type]
    except ERRORS as error:
        if os.environ.get("LONGRL_VERBOSE") == "1":
            raise
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print("stopped; the same command continues", file=sys.stderr)
        raise typer.Exit(130) from None


@app.command()
def run(
    output: Output,
    input: Input = None,
    config: Config = None,
    until: Annotated[str, typer.Option(help="Last stage to run.")] = STAGES[-1],
    rank: Rank = 0,
    world_size: World = 1,
    redo: Redo = None,
    patience: Patience = 3600,
    overrides: Overrides = None,
) -> None:
    """All stages, from documents to training parquet. Stopped at any moment, the same command continues."""
    if until not in STAGES:
        raise typer.BadParameter(f"unknown stage; stages: {', '.join(STAGES)}", param_hint="--until")
    stages = STAGES[: STAGES.index(until) + 1]
    _guarded(stages, input or [], output, config, overrides or [], rank, world_size, redo, patience)


def _add(name: str, help: str) -> None:
    """One stage as a command of its own."""

    @app.command(name, help=help)
    def stage(
        output: Output,
        input: Input = None,
        config: Config = None,
        rank: Rank = 0,
        world_size: World = 1,
        redo: Annotated[bool, typer.Option("--redo", help="Delete this stage and all after it first.")] = False,
        patience: Patience = 3600,
        overrides: Overrides = None,
    ) -> None:
        again = name if redo else None
        _guarded((name,), input or [], output, config, overrides or [], rank, world_size, again, patience)


for _name, _help in {
    "ingest": "Stage 1: read documents, keep those of 8K to 64K tokens.",
    "dedup": "Stage 2: drop equal and nearly equal documents.",
    "chunk": "Stage 3: split documents into chunks.",
    "embed": "Stage 4: embed the chunks.",
    "cluster": "Stage 5: cluster the chunks of each document by meaning.",
    "generate": "Stage 6: have a model write questions about clusters.",
    "judge": "Stage 7: have a model rate the questions.",
    "answer": "Stage 8: have models answer the best, without and with the document.",
    "select": "Stage 9: choose the best question of each document.",
    "export": "Stage 10: write training parquet, split by document.",
}.items():
    _add(_name, _help)


@app.command()
def reset(
    stage: Annotated[str, typer.Argument(help="The first stage to delete.")],
    output: Output,
) -> None:
    """Delete a stage and all after it, to make them anew. Replies of models are kept and not asked for again."""
    if stage not in STAGES:
        raise typer.BadParameter(f"unknown stage {stage!r}; stages: {', '.join(STAGES)}", param_hint="STAGE")
    _existing(output)
    store = Store(output, PARTS_OF)
    try:
        with store.locked():
            _remove(store, STAGES[STAGES.index(stage) :])
    except StoreError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None


def _existing(output: Path) -> None:
    if not output.is_dir():
        print(f"error: {output}: no such folder", file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def status(output: Output) -> None:
    """What a run has made so far."""
    _existing(output)
    Console().print(card.table(Store(output, PARTS_OF)))


@app.command()
def show(
    output: Output,
    what: Annotated[str, typer.Option(help="clusters or questions; default: the latest there is.")] = "",
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the random choice.")] = 0,
) -> None:
    """Print random clusters or selected questions, to judge them by eye."""
    views = {"clusters": viewer.clusters, "questions": viewer.questions}
    _existing(output)
    store = Store(output, PARTS_OF)
    kind = what or ("questions" if store.parts("select") else "clusters")
    if kind not in views:
        raise typer.BadParameter(f"{what!r}; expected clusters or questions", param_hint="--what")
    try:
        for text in views[kind](store, count, seed):
            print(text)
    except StoreError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None


@app.command("config")
def show_config() -> None:
    """Print the configuration file with all keys and their defaults."""
    print(card.default_config(), end="")


if __name__ == "__main__":
    app()
