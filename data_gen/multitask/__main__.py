"""Command line: python -m data_gen.multitask run --input DOCS --output DIR [--config FILE] [KEY=VALUE...]"""

from __future__ import annotations

from data_gen import cli
from data_gen.multitask.config import PARTS_OF, STAGES, MultitaskConfig

app = cli.create(
    cli.Pipeline(
        config=MultitaskConfig,
        inputs="File, folder, or hf:NAME[:CONFIG[:SPLIT]]",
        stages=STAGES,
        parts_of=PARTS_OF,
        title="Many kinds of long-context task",
        about="Answers are computed from the text that the prompt shows, or written by a model and confirmed by "
        "another; each is proven by the row's own reward. `extra_info.payload` holds source, the kind of question, "
        "which of the document's passages are shown, and the evidence of what was written.",
    )
)

if __name__ == "__main__":
    app()
