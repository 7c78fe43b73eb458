"""Command line: python -m data_gen.grounded_qa run --input QUESTIONS --output DIR [--config FILE] [KEY=VALUE...]"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from data_gen.cli import create_app, exit_on_user_error
from data_gen.export_stage import prompt_counter
from data_gen.grounded_qa.pipeline import GROUNDED_QA
from data_gen.grounded_qa.proof import UnsoundRow, prove_file

app = create_app(GROUNDED_QA)


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(help="train.parquet, val.parquet, ... of one run.")],
    tokenizer: Annotated[str, typer.Option(help="Also count every prompt with this tokenizer.")] = "",
) -> None:
    """Prove finished files from their rows alone: evidence, answers, lengths, no evidence in two of the files."""
    with exit_on_user_error():
        counter = prompt_counter(tokenizer) if tokenizer else None
        evidence: dict[str, Path] = {}
        for file in files:
            proof = prove_file(file, counter)
            for passage in proof.evidence_passages:
                if (other := evidence.setdefault(passage, file)) != file:
                    raise UnsoundRow(f"{other} and {file} share an evidence passage (digest {passage})")
            print(f"{file}: {proof.line()}")


if __name__ == "__main__":
    app()
