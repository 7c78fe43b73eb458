"""The shell commands in Markdown files: every line of a ```bash block, and every `code` that starts a program."""

import re
from collections.abc import Iterator
from pathlib import Path

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", flags=re.M | re.S)
CODE = re.compile(r"`([^`]+)`")
OURS = re.compile(r"([A-Z_]+=\S+ )*(bash|longrl|python|python3|source|vllm) \S|(scripts/\S+|run_longrl)\.sh(?= \S)")
"""Where a command begins in running text. A script's name alone is a reference, not a command."""


def commands(text: str) -> Iterator[str]:
    """Commands of a Markdown text, one line each: lines that continue are joined, comments are left to the shell."""
    for language, block in FENCE.findall(text):
        if language in ("bash", "sh", "console"):
            yield from (line.strip() for line in _joined(block) if line.strip() and line.lstrip()[0] != "#")
    for code in CODE.findall(FENCE.sub("", text)):
        line = " ".join(code.split())
        if OURS.match(line):
            yield line


def references(text: str) -> Iterator[str]:
    """Scripts and folders of the repository that a text names: `scripts/x.py`, `scripts/runs/*.sh`."""
    for code in CODE.findall(FENCE.sub("", text)):
        yield from re.findall(r"(?<![\w/])(?:scripts|docs|requirements|recipe|data_gen|tests)/[\w./*-]*[\w*/]", code)


def documents(root: Path, tracked: list[str]) -> dict[str, str]:
    """Name -> text of the repository's documents; a changelog tells of commands that were."""
    return {name: (root / name).read_text() for name in tracked if name.endswith(".md") and name != "CHANGELOG.md"}


def _joined(block: str) -> list[str]:
    return re.sub(r"\\\n\s*", "", block).splitlines()
