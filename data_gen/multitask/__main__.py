"""Command line: python -m data_gen.multitask run --input DOCS --output DIR [--config FILE] [KEY=VALUE...]"""

from __future__ import annotations

from data_gen.cli import create_app
from data_gen.multitask.pipeline import MULTITASK

app = create_app(MULTITASK)

if __name__ == "__main__":
    app()
