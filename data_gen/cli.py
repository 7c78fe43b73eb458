"""The command line of a pipeline: all stages (`run`), each of them, `status`, `reset`, `config`."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from verl_longrl.endpoints import EndpointError

from data_gen import report
from data_gen.config import ConfigError, PipelineConfig
from data_gen.llm import ServersGone
from data_gen.store import Shard, Store, StoreError

ERRORS = (ValueError, OSError, EndpointError, ServersGone)
"""What a user can put right: wrong values and files (our errors are ValueErrors), servers."""

Output = Annotated[Path, typer.Option(help="Folder of the run. The same command continues what is in it.")]
Config = Annotated[Path | None, typer.Option(help="YAML file; all keys with their defaults: the command `config`.")]
Rank = Annotated[int, typer.Option(help="This process's number, 0 to world size - 1.")]
World = Annotated[int, typer.Option(help="Processes that share the work, each with its own --rank.")]
Redo = Annotated[str | None, typer.Option(help="Delete this stage and all after it first, to make them anew.")]
Patience = Annotated[float, typer.Option(help="Seconds to wait for other ranks while they add nothing.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Configuration keys.")]


@dataclass(frozen=True)
class Pipeline:
    """What a command line needs to know of a pipeline.

    inputs: what --input may be. stages: name -> one line about it, in order; the last one writes the parquet.
    parts_of: the stage whose parts ranks share out (see Store). title, about: of the data set's card."""

    config: type[PipelineConfig]
    inputs: str
    stages: dict[str, str]
    parts_of: str
    title: str
    about: str

    def store(self, output: Path, shard: Shard | None = None) -> Store:
        """The run in a folder. Raises ConfigError when there is no such folder."""
        if shard is None and not output.is_dir():
            raise ConfigError(f"{output}: no such folder")
        return Store(output, self.parts_of, shard)

    def after(self, stage: str) -> tuple[str, ...]:
        """This stage and all that follow. Raises ConfigError when it is unknown."""
        names = tuple(self.stages)
        if stage not in names:
            raise ConfigError(f"{stage}: unknown stage; stages: {', '.join(names)}")
        return names[names.index(stage) :]

    def remove(self, store: Store, stages: tuple[str, ...]) -> None:
        """Delete what these stages made, and the data; the replies of models stay. Raises StoreError where anything is
        not of a run's."""
        if not any(store.begun(stage) for stage in self.stages):
            raise StoreError(f"{store.root} holds no run: nothing was deleted")
        exported = store.begun(list(self.stages)[-1])
        store.remove(stages)
        for name in report.FILES if exported else ():
            (store.root / name).unlink(missing_ok=True)

    def run(
        self,
        stages: tuple[str, ...],
        inputs: list[str],
        output: Path,
        file: Path | None,
        overrides: list[str],
        shard: Shard,
        redo: str | None,
        patience_s: float,
    ) -> None:
        """Run stages one after another, from wherever an earlier process stopped."""
        config = self.config.load(file, overrides)
        again = self.after(redo) if redo is not None else ()
        if again and shard.world_size > 1:
            raise ConfigError(
                f"--redo with --world-size > 1 would delete what other ranks make; run the command reset {redo} "
                "once, then all ranks without --redo"
            )
        store = self.store(output, shard)
        with store.locked():
            store.require_room(self.stages, report.FILES)
            prepared = [config.stage(name, inputs) for name in stages]
            for stage in prepared:
                if stage.name in again or not store.done(stage.name):
                    stage.check()
            if again:  # all that can be refused was refused
                self.remove(store, again)
            for stage in prepared:
                stage.run(store, patience_s)
                if stage.wanted():
                    print(report.line(store, stage.name), flush=True)
                    report.require_some(store, stage.name)
            if stages[-1] == list(self.stages)[-1] and shard.rank == 0:
                report.write(store, list(self.stages), config, self.title, self.about)
                Console().print(report.table(store, list(self.stages)))
                print(f"card     {output / 'README.md'}")
                for parquet in sorted(output.glob("*.parquet")):
                    print(f"{parquet.stem:8} {parquet}")


class guarded:
    """What a user can put right becomes one message and exit code 1. `stopped`: what is said after Ctrl-C."""

    def __init__(self, stopped: str = "stopped; the same command continues"):
        self.stopped = stopped

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ERRORS) and os.environ.get("LONGRL_VERBOSE") != "1":
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(1) from None
        if isinstance(error, KeyboardInterrupt):
            print(self.stopped, file=sys.stderr)
            raise typer.Exit(130) from None


def create(pipeline: Pipeline) -> typer.Typer:
    """The command line."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
    last = list(pipeline.stages)[-1]
    inputs = typer.Option(None, "--input", help=f"{pipeline.inputs}; may be repeated.")

    @app.command()
    def run(
        output: Output,
        input: list[str] | None = inputs,
        config: Config = None,
        until: Annotated[str, typer.Option(help="Last stage to run.")] = last,
        rank: Rank = 0,
        world_size: World = 1,
        redo: Redo = None,
        patience: Patience = 3600,
        overrides: Overrides = None,
    ) -> None:
        """All stages, from documents to training parquet. Stopped at any moment, the same command continues."""
        with guarded():
            stages = tuple(pipeline.stages)[: len(pipeline.stages) - len(pipeline.after(until)) + 1]
            shard = Shard(rank, world_size)
            pipeline.run(stages, input or [], output, config, overrides or [], shard, redo, patience)

    def add(name: str, about: str) -> None:
        @app.command(name, help=about)
        def stage(
            output: Output,
            input: list[str] | None = inputs,
            config: Config = None,
            rank: Rank = 0,
            world_size: World = 1,
            redo: Annotated[bool, typer.Option("--redo", help="Delete this stage and all after it first.")] = False,
            patience: Patience = 3600,
            overrides: Overrides = None,
        ) -> None:
            with guarded():
                shard, again = Shard(rank, world_size), name if redo else None
                pipeline.run((name,), input or [], output, config, overrides or [], shard, again, patience)

    for number, (name, about) in enumerate(pipeline.stages.items(), 1):
        add(name, f"Stage {number}: {about}")

    @app.command()
    def reset(stage: Annotated[str, typer.Argument(help="The first stage to delete.")], output: Output) -> None:
        """Delete a stage and all after it, to make them anew. Replies of models are kept and not asked for again."""
        with guarded():
            stages, store = pipeline.after(stage), pipeline.store(output)
            with store.locked():
                pipeline.remove(store, stages)

    @app.command()
    def status(output: Output) -> None:
        """What a run has made so far."""
        with guarded():
            Console().print(report.table(pipeline.store(output), list(pipeline.stages)))

    @app.command("config")
    def show_config() -> None:
        """Print the configuration file with all keys and their defaults."""
        print(pipeline.config.default_yaml(), end="")

    return app
