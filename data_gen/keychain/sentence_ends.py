"""Find certain sentence ends: the places between two sentences of a passage at which a link can be inserted.

Precision matters more than recall. An abbreviation ("U.S.", "Dr."), an initial, a decimal, an ellipsis, a numbered
heading or a line without a full stop does not count as an end, so no pair of a chain is ever inserted there. For
languages with a space between sentences."""

from __future__ import annotations

import re

_END = re.compile(r"[.!?]+[\"'”’)\]]*(?= [\"'“‘(\[]?\w)")
_OPENING = "\"'“‘(["
# fmt: off
_ABBREVIATIONS = frozenset([
    "al", "apr", "approx", "apt", "art", "aug", "ave", "blvd", "bros", "ca", "capt", "cf", "ch", "cmdr", "co", "col",
    "corp", "dec", "dept", "dr", "ed", "eds", "eg", "est", "etc", "feb", "fig", "figs", "fl", "fr", "ft", "gen", "gov",
    "hon", "ie", "inc", "jan", "jr", "jul", "jun", "lt", "ltd", "maj", "mar", "messrs", "mr", "mrs", "ms", "mt", "nos",
    "no", "nov", "oct", "op", "pg", "ph", "pl", "pp", "pres", "prof", "pt", "pvt", "rd", "ref", "rep", "rev", "sec",
    "sen", "sep", "sept", "sgt", "sr", "st", "ste", "subsp", "tel", "trans", "univ", "var", "ver", "viz", "vol", "vols",
    "vs", "yr",
])
# fmt: on


def sentence_ends(text: str) -> list[int]:
    """Positions in `text` at which a sentence ends and a space and another sentence follow, ascending."""
    return [match.end() for match in _END.finditer(text) if _is_end(text, match)]


def _is_end(text: str, match: re.Match[str]) -> bool:
    following = text[match.end() + 1 :][:2].lstrip(_OPENING)[:1]
    if not (following.isupper() or following.isdigit()):
        return False
    marks = match[0].rstrip("\"'”’)]")
    if marks[0] != ".":
        return True
    if len(marks) > 1:
        # An ellipsis.
        return False
    start = max(text.rfind(" ", 0, match.start()), text.rfind("\n", 0, match.start())) + 1
    word = text[start : match.start()].lstrip(_OPENING)
    if word.isdigit() and (start == 0 or text[start - 1] == "\n"):
        # A numbered heading: "2. History".
        return False
    if len(match[0]) > 1:
        # A quotation or a parenthesis ends with the sentence.
        return True
    return len(word) > 1 and "." not in word and word.casefold() not in _ABBREVIATIONS
