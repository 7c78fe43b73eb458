"""Find the entries of a list, however a model lays it out: on lines, on one line, in a table or as JSON.

Only the layout decides what is an entry, never whether it is right: a line that is not an entry earns nothing either,
so dropping it cannot pay. The exception is a line that was asked for as it is, which is not split.

| answer | entries |
|---|---|
| `Here they are:` and the lines `a`, `b` | a, b |
| the lines `a`, `b`, `These are all items.` | a, b |
| `a, b and c` | a, b, c |
| `a -> b -> c` | a, b, c |
| `["a", "b"]` | a, b |
| the lines `\\| # \\| item \\|`, `\\|---\\|---\\|`, `\\| 1 \\| a \\|` | a |

Bullets and numbers before an entry are left to `list_items.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from verl_longrl.rewards.matching import lenient_json
from verl_longrl.rewards.matching.response_format import without_emphasis
from verl_longrl.rewards.matching.tokens import MAX_CHARS

_TAG = re.compile(r"</?[A-Za-z_]{1,20}>")
_LABEL = re.compile(r"(?:in )?(?:notes?|total|count|explanation|reason(?:ing)?|sources?)\s?[:：].*", re.IGNORECASE)
_HEADING = re.compile(r"#{1,6}\s+")
_TABLE_RULE = re.compile(r"(?=[^-]*-)[|\s:+-]+")
_TABLE_NUMBER = re.compile(r"\W*\d{1,4}\W*")
_SENTENCE_END = re.compile(r"[.!?。！？][\"'”’)]{0,2}")
_SENTENCE_WORD = re.compile(
    r"(?<!\w)(?:is|are|was|were|has|have|had|do|does|did|can|could|will|would|should|may|might|must|i|we|you|they|these"
    r"|those|here|there|please|let|hope|note|thanks?|found|listed|mentioned|appears?|done)(?!\w)|以上|这些|希望|没有|如上|就是",
    re.IGNORECASE,
)
_LEAD_IN = re.compile(
    r"[^:：,;]{0,80}(?<!\w)(?:are|is|items?|answers?|list|following|order)(?!\w)[^:：,;]{0,40}[:：]\s+", re.IGNORECASE
)
_SEPARATORS = tuple(
    re.compile(pattern) for pattern in (r"\s*(?:→|⇒|->|=>)\s*|\s+>\s+", r"\s*[;；]\s*", r"\s*、\s*", r"\s+\|\s+")
)
# What is between two commas. A comma in quotes, in brackets or in a number does not separate.
_BETWEEN_COMMAS = re.compile(r"""(?:"[^"]*"|“[^”]*”|\([^()]*\)|\[[^\[\]]*\]|,(?=[0-9]{3}(?![0-9]))|[^,，])+""")
_AND = re.compile(r"\s+(?:and|&)\s+|\s*[和与及]\s*")
_LEADING_AND = re.compile(r"\A\s*(?:and|&)\s+")


def list_entries(lines: Sequence[str], is_expected: Callable[[str], bool], *, sentences: bool = False) -> list[str]:
    """The entries of a list on `lines`, which are stripped and not empty.

    is_expected: whether a text is an item that was asked for. sentences: the items asked for are sentences, so a
    sentence before or after the list may be one.
    """
    if entries := _json_entries("\n".join(lines)):
        return entries
    entries = [_TAG.sub("", line).strip() for line in _table_entries(lines)]
    entries = [line for line in entries if line and not _LABEL.fullmatch(line)]
    entries = _unless_all(entries, lambda line: not any(map(str.isalnum, line)))
    entries = _unless_all(entries, lambda line: without_emphasis(line).rstrip().endswith((":", "：")))
    entries = [_HEADING.sub("", line) for line in _unless_all(entries, lambda line: bool(_HEADING.match(line)))]
    if not sentences:
        entries = _without_framing(entries)
    if len(entries) == 1 and not is_expected(entries[0]) and len(entries[0]) <= MAX_CHARS:
        return _split(entries[0], is_expected)
    return entries


def is_sentence(line: str) -> bool:
    """Whether a line is a whole sentence, not a name or phrase: it has a verb or the like and ends as sentences do.

    >>> is_sentence("I hope this helps!"), is_sentence("The red house.")
    (True, False)
    """
    line = without_emphasis(line[:MAX_CHARS]).strip()
    return bool(_SENTENCE_END.search(line[-3:]) and _SENTENCE_WORD.search(line))


def _json_entries(text: str) -> list[str]:
    if not (text.startswith(("[", "{")) and text.endswith(("]", "}"))):
        return []
    try:
        value = lenient_json.decode(text)
    except ValueError:
        return []
    if isinstance(value, dict) and len(value) == 1:
        (value,) = value.values()
    scalars = isinstance(value, list) and all(isinstance(item, str | int | float) for item in value)
    # A line such as [1] or [a] is an item in brackets.
    return [str(item) for item in value if str(item).strip()] if scalars and ("," in text or '"' in text) else []


def _table_entries(lines: Sequence[str]) -> list[str]:
    """The lines, and the text of each row of a table. The row above a ruled line is the header."""
    entries: list[str] = []
    for line in lines:
        if _TABLE_RULE.fullmatch(line):
            if "|" in line and entries:
                entries.pop()
        elif len(line) > 2 and line[0] == line[-1] == "|":
            cells = [cell for cell in map(str.strip, line.strip("|").split("|")) if cell]
            numbered = len(cells) > 1 and _TABLE_NUMBER.fullmatch(cells[0])
            entries.append(" | ".join(cells[1:] if numbered else cells) or line)
        else:
            entries.append(line)
    return entries


def _unless_all(lines: list[str], drop: Callable[[str], bool]) -> list[str]:
    """`lines` without those to drop, unless that are all of them."""
    return [line for line in lines if not drop(line)] or lines


def _without_framing(lines: list[str]) -> list[str]:
    """`lines` without the sentences before and after the list, unless the list itself has sentences."""
    flags = [is_sentence(line) for line in lines]
    if False not in flags:
        return lines
    first, last = flags.index(False), len(flags) - flags[::-1].index(False)
    return lines if any(flags[first:last]) else lines[first:last]


def _split(line: str, is_expected: Callable[[str], bool]) -> list[str]:
    """The entries of a list on one line."""
    line = _LEAD_IN.sub("", line, count=1).rstrip(".。")
    for separator in _SEPARATORS:
        parts = separator.split(line)
        if len(parts) > 1:
            return [part for part in parts if part.strip()]
    parts = [part.strip() for part in _BETWEEN_COMMAS.findall(line)]
    parts = [_LEADING_AND.sub("", part) for part in parts if part]
    if parts and not is_expected(parts[-1]):
        parts[-1:] = _AND.split(parts[-1])
    return parts or [line]
