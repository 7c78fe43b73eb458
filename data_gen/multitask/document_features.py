"""Cheap features of a document that tell which tasks suit it. 10,000 words take about 10 ms."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from data_gen.multitask.quotable_sentences import sentence_runs, unwrap_lines
from data_gen.multitask.terms import FEWEST, MOST
from data_gen.multitask.visible_text import VisibleText

SAMPLED_PASSAGES = 24
"""Passages, evenly spread over the text, whose sentences and lines are counted."""
PROSE_WORDS = 12
"""Fewest words of a line of prose."""
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][A-Za-z]{3,19}\b")
_SPEECH = re.compile(r"[\"“„«‘—–]|[A-Z][\w .'’-]{0,30}:(?!\S)")
_ENDED = re.compile(r"[.!?][\"'”’)\]]*(?:\s|\Z)")


class Features(NamedTuple):
    """names: number of different words that are capitalised within a sentence and recur. years: number of different
    years, 0 if some cannot be told from other numbers. quotes: number of sampled passages with a sentence that can be
    quoted. prose, speech: share of the words that are in lines of sentences, and in lines that begin like speech."""

    names: int
    years: int
    quotes: int
    prose: float
    speech: float


def extract_features(passages: Sequence[str]) -> Features:
    """The features of a document that is divided into these passages."""
    shown = VisibleText(passages)
    names = Counter(name.casefold() for passage in shown.flat for name in _NAME.findall(passage))
    sampled = [passages[len(passages) * i // SAMPLED_PASSAGES] for i in range(min(SAMPLED_PASSAGES, len(passages)))]
    words = prose = speech = 0
    first_sentences: set[str] = set()
    for passage in sampled:
        for line in unwrap_lines(passage):
            length = len(line.split())
            words += length
            prose += length if length >= PROSE_WORDS and _ENDED.search(line) else 0
            speech += length if _SPEECH.match(line) else 0
        first_run = next(sentence_runs(passage), None)
        if first_run:
            first_sentences.add(first_run[0])
    words = max(words, 1)
    return Features(
        names=sum(FEWEST <= count <= MOST for count in names.values()),
        years=len(shown.years),
        quotes=len(first_sentences),
        prose=round(prose / words, 3),
        speech=round(speech / words, 3),
    )
