"""Command line: python -m data_gen.keychain run --input QUESTIONS --output DIR [--config FILE] [KEY=VALUE...]"""

from __future__ import annotations

from data_gen.cli import create_app
from data_gen.keychain.pipeline import KEYCHAIN

app = create_app(KEYCHAIN)

if __name__ == "__main__":
    app()
