"""The wording rules of docs/STYLE.md, looked for in every docstring, comment, message and page."""

from __future__ import annotations

import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

BANNED = {
    r"\b(stands?|standing|stood) (in|still|there)\b": "appears in, is in, makes no progress",
    r"\bfor ever\b": "forever, never ends",
    r"(?<![Tt]here )(?<!where )\b(is|are|was|were) no (?!longer\b|more\b|less\b|better\b|worse\b)": "is not a",
    r"(?<![Tt]here )\b(is|are) none\b": "is not one, has none",
    r"\b(go|goes|going|went) on\b": "resume, continue",
    r"\bcarried\b": "forwarded, kept",
    r"\b(come|comes) (again|when)\b": "is repeated, is scheduled",
    r"\bthat which\b": "what it is, named",
    r"\ba Ray of (its|their|one's) own\b": "its own Ray",
    r"\bin the place of\b": "in place of, instead of",
    r"\bto be \w+ed beside\b": "installed separately",
}
"""Pattern -> what to write instead."""

BANNED_FIRST_WORDS = re.compile(r"(What|Who|Whatever|Whoever|That which)\b")
"""A docstring says what a thing is or does: "The memory that ...", "Return ...", not "What a GPU needs"."""

UPSTREAM = re.compile(r"(?i)(?<![\w`=\"'./-])upstream\b(?![`\"'](?!s\b))")
"""Say verl, vLLM or TransferQueue. The option value is written `upstream`."""


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split()]


def prose_of_python(source: str) -> Iterator[tuple[int, str, bool]]:
    """(line, text, whether it is a docstring) of each comment and string."""
    before = tokenize.NEWLINE
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            docstring = token.type == tokenize.STRING and before in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
            yield token.start[0], token.string, docstring
        if token.type not in (tokenize.COMMENT, tokenize.NL):
            before = token.type


def problems(path: Path) -> Iterator[str]:
    name, text = path.relative_to(ROOT).as_posix(), path.read_text()
    if path.suffix == ".py":
        pieces = list(prose_of_python(text))
    else:
        pieces = [(number, line, False) for number, line in enumerate(text.split("\n"), 1)]
    for line, piece, docstring in pieces:
        if docstring and BANNED_FIRST_WORDS.match(piece.strip("rbuf\"' \n")):
            yield f"{name}:{line}: a docstring begins with {piece.split()[0]}; name the thing: what it is or does"
        for pattern, instead in BANNED.items():
            for found in re.finditer(pattern, " ".join(piece.split())):
                yield f"{name}:{line}: {found[0]!r}; better: {instead}"
        if found := UPSTREAM.search(piece):
            yield f"{name}:{line}: {found[0]!r}; say verl (or vLLM, TransferQueue): {' '.join(piece.split())[:80]}"


FILES = [
    path
    for path in tracked("*.py", "*.md", "*.sh", "*.sbatch", "*.yaml", ".ci/run")
    if not path.is_relative_to(ROOT / "tests") or path.is_relative_to(ROOT / "tests/support")
    if path.name not in ("STYLE.md", "configuration.md")
    if not path.is_relative_to(ROOT / "requirements")
]


@pytest.mark.parametrize("room", sorted({path.relative_to(ROOT).parts[0] for path in FILES}))
def test_text_follows_the_style_guide(room):
    found = [line for path in FILES if path.relative_to(ROOT).parts[0] == room for line in problems(path)]
    assert found == [], "\n".join(["see docs/STYLE.md", *found])


def test_the_rules_find_what_they_are_for(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    page = tmp_path / "page.py"
    page.write_text('"""What a run is."""\n\nx = "the run goes on for ever"  # as upstream does\n')
    assert len(list(problems(page))) == 4
    page.write_text('"""A run."""\n\nx = "there is no file"  # `upstream`, engine=upstream\n')
    assert list(problems(page)) == []
