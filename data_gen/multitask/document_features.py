"""Cheap features of a document: what it has that tasks can ask about. 10,000 words take some 10 ms."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from data_gen.multitask.quotable_sentences import sentence_runs, unwrapped
from data_gen.multitask.terms import FEWEST, MOST
from data_gen.multitask.visible_text import VisibleText

LOOKED_AT = 24
"""Passages, evenly over the text, in which sentences and lines are looked at."""
PARAGRAPH = 12
"""Words of a line that holds prose, at least."""
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][A-Za-z]{3,19}\b")
_SPEECH = re.compile(r"[\"“„«‘—–]|[A-Z][\w .'’-]{0,30}:(?!\S)")
_ENDED = re.compile(r"[.!?][\"'”’)\]]*(?:\s|\Z)")


class Features(NamedTuple):
    """names: different words that are capitalised within a sentence and recur. years: different years, 0 where one
    cannot be sure of all. quotes: of LOOKED_AT passages, those with a sentence that can be quoted. prose, speech: share
    of the words in lines that hold sentences, and in lines that begin as speech does."""

    names: int
    years: int
    quotes: int
    prose: float
    speech: float


def features(passages: Sequence[str]) -> Features:
    """The features of a document that is divided into these passages."""
    shown = VisibleText(passages)
    found = Counter(name.casefold() for passage in shown.flat for name in _NAME.findall(passage))
    seen = [passages[len(passages) * i // LOOKED_AT] for i in range(min(LOOKED_AT, len(passages)))]
    lines = [line for passage in seen for line in unwrapped(passage)]
    lengths = [len(line.split()) for line in lines]
    words = max(sum(lengths), 1)
    prose = sum(n for line, n in zip(lines, lengths, strict=True) if n >= PARAGRAPH and _ENDED.search(line))
    speech = sum(n for line, n in zip(lines, lengths, strict=True) if _SPEECH.match(line))
    return Features(
        names=sum(FEWEST <= times <= MOST for times in found.values()),
        years=len(shown.years),
        quotes=len({run[0] for passage in seen for run in itertools.islice(sentence_runs(passage), 1)}),
        prose=round(prose / words, 3),
        speech=round(speech / words, 3),
    )
