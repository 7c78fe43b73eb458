"""Sentences that can be quoted: nobody could say that they begin or end elsewhere, and each stands in the text once.

A line of 45 characters or more that ends within a paragraph was wrapped there, and goes on in the next; a shorter one
(a heading, an item, a verse) ends where it ends, and no sentence crosses it. Left out are sentences with a full stop
inside, an open quotation or bracket, or a beginning other than a capitalised word or a number.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from data_gen.keychain.sentence_ends import sentence_ends

WRAPPED = 45
SHORTEST, LONGEST = 6, 45
"""Words of a sentence that is quoted."""
_END = re.compile(r"[.!?][\"'”’)\]]*\Z")
_INSIDE = re.compile(r"[.!?…:][\"'”’)\]]*\s")
_FIRST_WORD = re.compile(r"[\"'“‘(\[]*(\w+)")
_PAIRS = (("“", "”"), ("(", ")"), ("[", "]"))


def sentence_runs(passage: str) -> Iterator[list[str]]:
    """Sentences that follow one another without a gap, each flat, in order; none that could be cut differently."""
    for line in unwrapped(passage):
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


def unwrapped(passage: str) -> list[str]:
    """The lines of a passage as they were before they were wrapped, flat."""
    lines: list[str] = []
    goes_on = False
    for raw in passage.split("\n"):
        line = " ".join(raw.split())
        if goes_on and line:
            lines[-1] += " " + line
        else:
            lines.append(line)
        goes_on = len(line) >= WRAPPED
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
