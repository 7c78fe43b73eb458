"""The command line of a pipeline: all stages (`run`), each stage, `status`, `reset`, `config`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from verl_longrl.endpoints import EndpointError

from data_gen import report
from data_gen.config import ConfigError
from data_gen.llm import ServersGone
from data_gen.pipeline import Pipeline
from data_gen.store import Shard, Store, StoreError

USER_ERRORS = (ValueError, OSError, EndpointError, ServersGone)
"""Errors that a user can fix: wrong values and files (all of our own errors are ValueErrors), servers."""

Output = Annotated[Path, typer.Option(help="Output folder. Rerun the same command to resume.")]
Config = Annotated[Path | None, typer.Option(help="YAML file; the command `config` prints all keys and defaults.")]
Rank = Annotated[int, typer.Option(help="Number of this process, from 0 to world size - 1.")]
World = Annotated[int, typer.Option(help="Number of processes that share the work, each with its own --rank.")]
Redo = Annotated[str | None, typer.Option(help="Delete this stage and all after it first, then make them again.")]
Patience = Annotated[float, typer.Option(help="Seconds to wait for other ranks while they make no progress.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Configuration keys.")]


class exit_on_user_error:
    """Turn an error that a user can fix into one line and exit code 1, and Ctrl-C into `stopped` and exit code 130."""

    def __init__(self, stopped: str = "stopped; rerun the same command to resume"):
        self.stopped = stopped

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, USER_ERRORS) and os.environ.get("LONGRL_VERBOSE") != "1":
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(1) from None
        if isinstance(error, KeyboardInterrupt):
            print(self.stopped, file=sys.stderr)
            raise typer.Exit(130) from None


def open_store(pipeline: Pipeline, output: Path, shard: Shard | None = None) -> Store:
    """The store of a run. Raises ConfigError when there is no such folder, unless a shard of it is about to be made."""
    if shard is None and not output.is_dir():
        raise ConfigError(f"{output}: no such folder")
    return Store(output, pipeline.shared_parts, shard)


def remove_stages(pipeline: Pipeline, store: Store, stages: tuple[str, ...]) -> None:
    """Delete the output of these stages and the exported data; the replies of models are kept.

    Raises StoreError when the folder has files that no run of data_gen wrote.
    """
    if not any(store.has_begun(stage) for stage in pipeline.stage_names):
        raise StoreError(f"{store.root} holds no run: nothing was deleted")
    exported = store.has_begun(pipeline.stage_names[-1])
    store.remove(stages)
    for name in report.FILES if exported else ():
        (store.root / name).unlink(missing_ok=True)


def run_stages(
    pipeline: Pipeline,
    names: tuple[str, ...],
    inputs: list[str],
    output: Path,
    file: Path | None,
    overrides: list[str],
    shard: Shard,
    redo: str | None,
    patience_s: float,
) -> None:
    """Run stages one after another, each from where an earlier process stopped."""
    config = pipeline.config.load(file, overrides)
    to_remove = pipeline.stages_from(redo) if redo is not None else ()
    if to_remove and shard.world_size > 1:
        raise ConfigError(
            f"--redo {redo}: would delete the work of other ranks (--world-size {shard.world_size}). Fix: run the "
            f"command reset {redo} once, then all ranks without --redo"
        )
    store = open_store(pipeline, output, shard)
    with store.locked():
        store.require_room(pipeline.stage_names, report.FILES)
        stages = [pipeline.build_stage(name, config, inputs) for name in names]
        for stage in stages:
            if stage.name in to_remove or not store.is_done(stage.name):
                stage.check_before_run()
        # Only now, when nothing above has refused the command, is anything deleted.
        if to_remove:
            remove_stages(pipeline, store, to_remove)
        for stage in stages:
            stage.run(store, patience_s)
            if stage.is_enabled():
                print(report.stage_line(store, stage.name), flush=True)
                report.require_documents(store, stage.name)
        if names[-1] == pipeline.stage_names[-1] and shard.rank == 0:
            report.write(store, pipeline, config)
            Console().print(report.funnel_table(store, pipeline.stage_names))
            print(f"card     {output / 'README.md'}")
            for parquet in sorted(output.glob("*.parquet")):
                print(f"{parquet.stem:8} {parquet}")


def create_app(pipeline: Pipeline) -> typer.Typer:
    """The command line of a pipeline."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
    inputs = typer.Option(None, "--input", help=f"{pipeline.inputs}; may be repeated.")

    @app.command()
    def run(
        output: Output,
        input: list[str] | None = inputs,
        config: Config = None,
        until: Annotated[str, typer.Option(help="Last stage to run.")] = pipeline.stage_names[-1],
        rank: Rank = 0,
        world_size: World = 1,
        redo: Redo = None,
        patience: Patience = 3600,
        overrides: Overrides = None,
    ) -> None:
        """Run all stages, from the input to training parquet. If the run is killed, rerun the same command: it
        resumes."""
        with exit_on_user_error():
            stages, shard = pipeline.stages_until(until), Shard(rank, world_size)
            run_stages(pipeline, stages, input or [], output, config, overrides or [], shard, redo, patience)

    def add_stage_command(name: str, summary: str) -> None:
        @app.command(name, help=summary)
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
            with exit_on_user_error():
                shard, first = Shard(rank, world_size), name if redo else None
                run_stages(pipeline, (name,), input or [], output, config, overrides or [], shard, first, patience)

    for number, stage in enumerate(pipeline.stages.values(), 1):
        add_stage_command(stage.name, f"Stage {number}: {stage.summary}")

    @app.command()
    def reset(stage: Annotated[str, typer.Argument(help="The first stage to delete.")], output: Output) -> None:
        """Delete a stage and all after it, to make them again. Replies of models are kept and not requested again."""
        with exit_on_user_error():
            stages, store = pipeline.stages_from(stage), open_store(pipeline, output)
            with store.locked():
                remove_stages(pipeline, store, stages)

    @app.command()
    def status(output: Output) -> None:
        """Show the documents, drops and seconds of each stage so far."""
        with exit_on_user_error():
            Console().print(report.funnel_table(open_store(pipeline, output), pipeline.stage_names))

    @app.command("config")
    def show_config() -> None:
        """Print a configuration file with all keys and their defaults."""
        print(pipeline.config.default_yaml(), end="")

    return app
