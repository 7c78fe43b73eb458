"""Task golongrl_table (IoU): where words or years are mentioned, gathered from all passages in a table."""

from __future__ import annotations

import random
from typing import Any

from data_gen.multitask import prompts
from data_gen.multitask.computed_tasks.task import Limits, Made, Unsuited, first_of, listed
from data_gen.multitask.terms import shuffled
from data_gen.multitask.visible_text import Shown

FEWEST_WORDS, MOST_WORDS = 3, 8
PLACES = ("first passage", "last passage", "passages")
MEANING = (
    '"first passage" and "last passage" are the numbers of the first and the last passage that mention it, and '
    '"passages" is how many passages mention it.'
)


def table(shown: Shown, draw: random.Random, limits: Limits) -> Made:
    return first_of((_words, _years), shown, draw, limits)


def _words(shown: Shown, draw: random.Random, limits: Limits) -> Made:
    found = [term for term in shuffled(shown.terms, draw) if 2 <= len(term.counts) <= limits.most]
    chosen = found[: draw.randint(FEWEST_WORDS, MOST_WORDS)]
    if len(chosen) < FEWEST_WORDS:
        raise Unsuited("few_terms")
    words = listed([term.word for term in chosen])
    question = (
        f'Make a table with one row for each of these words: {words}. Its columns: "word" is the word, {MEANING} '
        f"{prompts.WORD_RULE}"
    )
    return _table("words", "word", question, [(term.word, term.passages) for term in chosen], draw)


def _years(shown: Shown, draw: random.Random, limits: Limits) -> Made:
    found = list(shown.years.items())
    if not limits.least <= len(found) <= limits.most:
        raise Unsuited("few_years")
    question = (
        f'Make a table with one row for each year that the text mentions. Its columns: "year" is the year, {MEANING} '
        f"{prompts.YEAR_RULE}"
    )
    return _table("years", "year", question, found, draw)


def _table(kind: str, key: str, question: str, found: list[tuple[Any, list[int]]], draw: random.Random) -> Made:
    columns = [key, *PLACES]
    rows = [[name, numbers[0], numbers[-1], len(numbers)] for name, numbers in found]
    wrong = [list(row) for row in rows]
    wrong[draw.randrange(len(wrong))][draw.randrange(1, len(columns))] += 1
    gold, neighbour = ({"columns": columns, "data": data} for data in (rows, wrong))
    return Made(kind, question, prompts.table(columns), gold, neighbour)
