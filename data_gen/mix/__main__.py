"""Command line: python -m data_gen.mix --output DIR [--config FILE] [--total N] FILE[:KEY=VALUE,...]..."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.console import Console

from data_gen.cli import exit_on_user_error
from data_gen.importers.layouts import Layout
from data_gen.mix.config import MixConfig
from data_gen.mix.write_mix import TRAIN, write_mix

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


@app.command()
def main(
    output: Annotated[Path, typer.Option(help="Folder to write train.parquet, mix.json and config.yaml to.")],
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE[:KEY=VALUE,...]",
            help=f"Files (or a quoted pattern), with layout=NAME ({', '.join(get_args(Layout))}), and count=ROWS or "
            "weight=SHARE (neither: all rows); repeat=true samples rows with replacement.",
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with the same keys, and a list of sources.")] = None,
    total: Annotated[
        int | None, typer.Option(help="Rows of the mix; weights share the rows that counts leave.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the choice and the order; default 0.")] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Folder or name of the tokenizer of the model to be trained.")
    ] = None,
    max_prompt_tokens: Annotated[int | None, typer.Option(help="Drop rows with longer prompts.")] = None,
    benchmark: Annotated[
        list[str] | None, typer.Option(help="File whose texts must not appear in the mix; may be repeated.")
    ] = None,
    scorers: Annotated[
        list[str] | None, typer.Option(help="Module or file with your own scorers, so their data_source is known.")
    ] = None,
) -> None:
    """Mix rows of several sources into one training file: chosen and shuffled by seed, deduplicated, validated.

    python -m data_gen.mix --output data/mix --total 5000 keychain/train.parquet:weight=2 mathqa.json:count=500
    """
    with exit_on_user_error(stopped="stopped; train.parquet was not written"):
        options = MixConfig.load(
            config,
            sources or [],
            total=total,
            seed=seed,
            tokenizer=tokenizer,
            max_prompt_tokens=max_prompt_tokens,
            benchmarks=benchmark or None,
            scorers=scorers or None,
        )
        report = write_mix(options, output)
        Console().print(report.tables())
        print(f"train    {output / TRAIN}")


if __name__ == "__main__":
    app()
