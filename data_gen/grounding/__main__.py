"""Command line: python -m data_gen.grounding run --input DOCS --output DIR [--config FILE] [KEY=VALUE...]"""

from __future__ import annotations

from typing import Annotated

import typer

from data_gen import cli
from data_gen.config import ConfigError
from data_gen.grounding import show as viewer
from data_gen.grounding.pipeline import GROUNDING

app = cli.create_app(GROUNDING)


@app.command()
def show(
    output: cli.Output,
    what: Annotated[str, typer.Option(help="clusters or questions; default: the latest that exists.")] = "",
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the random choice.")] = 0,
) -> None:
    """Print random clusters or selected questions, to inspect them."""
    views = {"clusters": viewer.show_clusters, "questions": viewer.show_questions}
    with cli.exit_on_user_error():
        store = cli.open_store(GROUNDING, output)
        kind = what or ("questions" if store.parts("select") else "clusters")
        if kind not in views:
            raise ConfigError(f"--what {what}: expected clusters or questions")
        for text in views[kind](store, count, seed):
            print(text)


if __name__ == "__main__":
    app()
