"""Where a sentence has really ended: the places at which something may stand between two sentences of a passage.

Precision comes before recall: an abbreviation ("U.S.", "Dr."), an initial, a decimal, an ellipsis, a numbered heading
or a line without a full stop is no end, and so no pair of a chain is ever put there. For languages that put a space
between sentences."""

from __future__ import annotations

import re

_END = re.compile(r"[.!?]+[\"'”’)\]]*(?= [\"'“‘(\[]?\w)")
_OPENING = "\"'“‘(["
_ABBREVIATIONS = frozenset(
    [
        "al",
        "apr",
        "approx",
        "apt",
        "art",
        "aug",
        "ave",
        "blvd",
        "bros",
        "ca",
        "capt",
        "cf",
        "ch",
        "cmdr",
        "co",
        "col",
        "corp",
        "dec",
        "dept",
        "dr",
        "ed",
        "eds",
        "eg",
        "est",
        "etc",
        "feb",
        "fig",
        "figs",
        "fl",
        "fr",
        "ft",
        "gen",
        "gov",
        "hon",
        "ie",
        "inc",
        "jan",
        "jr",
        "jul",
        "jun",
        "lt",
        "ltd",
        "maj",
        "mar",
        "messrs",
        "mr",
        "mrs",
        "ms",
        "mt",
        "nos",
        "no",
        "nov",
        "oct",
        "op",
        "pg",
        "ph",
        "pl",
        "pp",
        "pres",
        "prof",
        "pt",
        "pvt",
        "rd",
        "ref",
        "rep",
        "rev",
        "sec",
        "sen",
        "sep",
        "sept",
        "sgt",
        "sr",
        "st",
        "ste",
        "subsp",
        "tel",
        "trans",
        "univ",
        "var",
        "ver",
        "viz",
        "vol",
        "vols",
        "vs",
        "yr",
    ]
)


def sentence_ends(text: str) -> list[int]:
    """Positions in `text` at which a sentence has ended and a space and another sentence follow, ascending."""
    return [found.end() for found in _END.finditer(text) if _ends(text, found)]


def _ends(text: str, found: re.Match[str]) -> bool:
    following = text[found.end() + 1 :][:2].lstrip(_OPENING)[:1]
    if not (following.isupper() or following.isdigit()):
        return False
    marks = found[0].rstrip("\"'”’)]")
    if marks[0] != ".":
        return True
    if len(marks) > 1:
        return False
    start = max(text.rfind(" ", 0, found.start()), text.rfind("\n", 0, found.start())) + 1
    word = text[start : found.start()].lstrip(_OPENING)
    if word.isdigit() and (start == 0 or text[start - 1] == "\n"):
        return False  # "2. History"
    if len(found[0]) > 1:
        return True  # a quotation or a parenthesis has ended with the sentence
    return len(word) > 1 and "." not in word and word.casefold() not in _ABBREVIATIONS
