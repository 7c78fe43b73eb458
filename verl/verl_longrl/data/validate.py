"""Check training data from the command line: `python -m verl_longrl.data.validate FILE...`.

A good file gives one summary line and exit status 0; otherwise there is one line per problem and exit status 1.
Warnings go to stderr and do not fail a file. The checks themselves are in `validation.py` and `row_checks.py`; their
functions can be imported from here too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from verl_longrl.data.prompt_lengths import CACHE_DIR
from verl_longrl.data.validation import ValidationReport, check_lengths, validate_file, validate_rows

__all__ = ["ValidationReport", "app", "check_lengths", "validate_file", "validate_rows"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Parquet files to check.", show_default=False)],
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="Tokenizer folder or name. Prompts are counted with it unless the file has counts of this tokenizer."
        ),
    ] = None,
    max_prompt_length: Annotated[
        int | None,
        typer.Option(min=1, help="Report prompts of more tokens than this (data.max_prompt_length)."),
    ] = None,
    max_errors: Annotated[int, typer.Option(min=0, help="Problem lines per file; 0 shows all.")] = 20,
    scorers: Annotated[
        list[str] | None,
        typer.Option(help="Module or file with your own scorers, so that their data_source is known."),
    ] = None,
    prompt_key: Annotated[str, typer.Option(help="Column of the prompt.")] = "prompt",
    cache_dir: Annotated[Path, typer.Option(help="Where counted prompt lengths are cached.")] = CACHE_DIR,
) -> None:
    """Check training data before a run starts.

    A good file gives one line and exit 0. Otherwise there is one line per problem, with file, row, column, value and
    fix, and exit 1.
    """
    failed = False
    if scorers:
        from verl_longrl.data.scorer_check import try_scorers
        from verl_longrl.rewards.options import RewardOptions

        try:
            trial = try_scorers(RewardOptions(scorers=tuple(scorers)), files)
        except ImportError as error:
            typer.echo(f"scorers: {error}", err=True)
            raise typer.Exit(1) from error
        for name in trial.unused:
            typer.echo(f"warning: scorers: no row has data_source = {name!r}", err=True)
        for line in trial.problems:
            typer.echo(f"scorers: {line}")
        failed = bool(trial.problems)
    loaded = None
    if tokenizer is not None:
        from transformers import AutoTokenizer

        try:
            loaded = AutoTokenizer.from_pretrained(tokenizer)
        except (OSError, ValueError) as error:
            typer.echo(f"tokenizer = {tokenizer!r}: cannot be read ({str(error).splitlines()[0]})", err=True)
            raise typer.Exit(1) from error
    for file in files:
        report = validate_file(
            file,
            tokenizer=loaded,
            max_prompt_length=max_prompt_length,
            max_errors=max_errors,
            prompt_key=prompt_key,
            cache_dir=cache_dir,
        )
        for line in report.warnings:
            typer.echo(f"warning: {line}", err=True)
        for line in report.lines():
            typer.echo(line)
        failed |= not report.ok
    raise typer.Exit(1 if failed else 0)


if __name__ == "__main__":
    app()
