"""Command line: python -m data_gen.diagnose --output DIR SOURCE..."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from verl_longrl.data.progress import progress_bar

from data_gen.cli import guarded
from data_gen.diagnose import next_round
from data_gen.diagnose.report import MARKDOWN, Report
from data_gen.diagnose.sources import DifficultyStage, Filtered, SourceError, source
from data_gen.diagnose.tally import Tally

NEXT = "next.yaml"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


@app.command()
def main(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE...",
            help="Output of data_gen.multitask with its stage difficulty, a training run's folder, or its mining.",
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder to write report.md, report.json, plots.png and next.yaml to.")],
    config: Annotated[
        Path | None,
        typer.Option(
            help="Configuration that next.yaml is based on; default: the config.yaml of a data_gen.multitask source."
        ),
    ] = None,
    last_steps: Annotated[int, typer.Option(min=0, help="Of a training run only so many steps; 0: all.")] = 0,
) -> None:
    """Pass rates by task, length and difficulty, how responses fail, and weights for the next round of
    data_gen.multitask.

    python -m data_gen.diagnose --output outputs/diagnosis --last-steps 50 outputs/golongrl
    """
    with guarded(stopped="stopped; nothing was written"):
        found = [source(path, last_steps) for path in sources]
        tally, filtered = Tally(), Filtered()
        with progress_bar("reading", None, "prompts") as advance:
            for one in found:
                tally.add(one, advance)
                filtered.add(one.filtered)
        if not tally.by_task:
            raise SourceError(f"{', '.join(map(str, sources))}: no prompt was answered")
        weights = next_round.weights(tally.by_task, filtered.groups)
        report = Report(found, tally, filtered, weights)
        if config is None:
            configs = [one.path / "config.yaml" for one in found if isinstance(one, DifficultyStage)]
            config = next((file for file in configs if file.is_file()), None)
        settings = next_round.next_yaml(weights, config) if weights else None
        output.mkdir(parents=True, exist_ok=True)
        report.write(output)
        Console().print(report.shown())
        print(f"report   {output / MARKDOWN}")
        if settings is None:
            print("no task of data_gen.multitask is among these, so there is no next.yaml")
        else:
            (output / NEXT).write_text(settings)
            print(f"next     {output / NEXT}: python -m data_gen.multitask run --config {output / NEXT} ..., or")
            print(f"         {' '.join(next_round.overrides(weights))}")


if __name__ == "__main__":
    app()
