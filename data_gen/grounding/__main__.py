"""Command line: python -m data_gen.grounding run --input DOCS --output DIR [--config FILE] [KEY=VALUE...]"""

from __future__ import annotations

from typing import Annotated

import typer

from data_gen import cli
from data_gen.config import ConfigError
from data_gen.grounding import show as viewer
from data_gen.grounding.config import PARTS_OF, STAGES, GroundingConfig

pipeline = cli.Pipeline(
    config=GroundingConfig,
    inputs="File, folder, or hf:NAME[:CONFIG[:SPLIT]]",
    stages=STAGES,
    parts_of=PARTS_OF,
    title="Grounded long-context questions",
    about="Each row asks one question whose evidence is in several chunks of the document; `extra_info.ref_chunks` "
    "names them, `extra_info.payload` holds source, explanation, score and pass rates.",
)
app = cli.create(pipeline)


@app.command()
def show(
    output: cli.Output,
    what: Annotated[str, typer.Option(help="clusters or questions; default: the latest there is.")] = "",
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the random choice.")] = 0,
) -> None:
    """Print random clusters or selected questions, to judge them by eye."""
    views = {"clusters": viewer.clusters, "questions": viewer.questions}
    with cli.guarded():
        store = pipeline.store(output)
        kind = what or ("questions" if store.parts("select") else "clusters")
        if kind not in views:
            raise ConfigError(f"--what {what}; expected clusters or questions")
        for text in views[kind](store, count, seed):
            print(text)


if __name__ == "__main__":
    app()
