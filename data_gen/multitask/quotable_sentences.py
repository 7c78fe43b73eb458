"""Find sentences that can be quoted: those whose beginning and end are beyond doubt.

A line of 45 characters or more that ends within a paragraph is taken to be wrapped there, and to continue in the next
line. A shorter line (a heading, an item, a verse) ends a sentence. Sentences with a full stop inside, an open quotation
or bracket, or a beginning other than a capitalised word or a number are left out.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from data_gen.keychain.sentence_ends import sentence_ends

WRAPPED = 45
SHORTEST, LONGEST = 6, 45
"""Fewest and most words of a quoted sentence."""
_END = re.compile(r"[.!?][\"'”’)\]]*\Z")
_INSIDE = re.compile(r"[.!?…:][\"'”’)\]]*\s")
_FIRST_WORD = re.compile(r"[\"'“‘(\[]*(\w+)")
_PAIRS = (("“", "”"), ("(", ")"), ("[", "]"))


def sentence_runs(passage: str) -> Iterator[list[str]]:
    """Runs of consecutive quotable sentences, in order, each sentence on one line."""
    for line in unwrap_lines(passage):
        cuts = [0, *sentence_ends(line), len(line)]
        run: list[str] = []
        for a, b in itertools.pairwise(cuts):
            sentence = line[a:b].strip()
            if _is_plain(sentence):
                run.append(sentence)
            elif run:
                yield run
                run = []
        if run:
            yield run


def unwrap_lines(passage: str) -> list[str]:
    """The lines of a passage as they were before they were wrapped, with single spaces."""
    lines: list[str] = []
    continues = False
    for raw in passage.split("\n"):
        line = " ".join(raw.split())
        if continues and line:
            lines[-1] += " " + line
        else:
            lines.append(line)
        continues = len(line) >= WRAPPED
    return lines


def _is_plain(sentence: str) -> bool:
    first = _FIRST_WORD.match(sentence)
    return (
        SHORTEST <= len(sentence.split()) <= LONGEST
        and first is not None
        and (first[1].istitle() or first[1].isdigit())
        and bool(_END.search(sentence))
        and not _INSIDE.search(sentence)
        and sentence.count('"') % 2 == 0
        and all(sentence.count(opening) == sentence.count(closing) for opening, closing in _PAIRS)
    )
