"""Command line: python -m data_gen.diagnose --output DIR SOURCE..."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from verl_longrl.data.progress import progress_bar

from data_gen.cli import exit_on_user_error
from data_gen.diagnose import next_round
from data_gen.diagnose.report import MARKDOWN, DiagnosisReport
from data_gen.diagnose.sources import DifficultyResponses, Filtered, SourceError, open_source
from data_gen.diagnose.tally import Tally

NEXT = "next.yaml"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


@app.command()
def main(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE...",
            help="Output folder of data_gen.multitask with stage difficulty, of a training run, or of its mining.",
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder to write report.md, report.json, plots.png and next.yaml to.")],
    config: Annotated[
        Path | None,
        typer.Option(
            help="Configuration on which next.yaml is based; default: the config.yaml of a data_gen.multitask source."
        ),
    ] = None,
    last_steps: Annotated[int, typer.Option(min=0, help="Read only this many steps of a training run; 0: all.")] = 0,
) -> None:
    """Show pass rates by task, length and difficulty, how responses fail, and weights for the next round of
    data_gen.multitask.

    python -m data_gen.diagnose --output outputs/diagnosis --last-steps 50 outputs/golongrl
    """
    with exit_on_user_error(stopped="stopped; nothing was written"):
        opened = [open_source(path, last_steps) for path in sources]
        tally, filtered = Tally(), Filtered()
        with progress_bar("reading", None, "prompts") as advance:
            for source in opened:
                tally.add(source, advance)
                filtered.add(source.filtered)
        if not tally.by_task:
            raise SourceError(f"{', '.join(map(str, sources))}: no prompt was answered")
        weights = next_round.next_weights(tally.by_task, filtered.groups)
        report = DiagnosisReport(opened, tally, filtered, weights)
        if config is None:
            configs = [source.path / "config.yaml" for source in opened if isinstance(source, DifficultyResponses)]
            config = next((file for file in configs if file.is_file()), None)
        settings = next_round.next_yaml(weights, config) if weights else None
        output.mkdir(parents=True, exist_ok=True)
        report.write(output)
        Console().print(report.for_terminal())
        print(f"report   {output / MARKDOWN}")
        if settings is None:
            print("there are no tasks of data_gen.multitask, so next.yaml was not written")
        else:
            (output / NEXT).write_text(settings)
            print(f"next     {output / NEXT}: python -m data_gen.multitask run --config {output / NEXT} ..., or")
            print(f"         {' '.join(next_round.weight_overrides(weights))}")


if __name__ == "__main__":
    app()
