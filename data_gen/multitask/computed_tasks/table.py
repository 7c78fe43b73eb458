"""Task golongrl_table (IoU): a table of where words or years are mentioned, gathered from all passages."""

from __future__ import annotations

import random
from typing import Any

from data_gen.multitask import prompts
from data_gen.multitask.computed_tasks.task import Limits, NothingToAsk, TaskSample, first_of, quoted_list
from data_gen.multitask.terms import shuffled
from data_gen.multitask.visible_text import VisibleText

FEWEST_WORDS, MOST_WORDS = 3, 8
PLACES = ("first passage", "last passage", "passages")
COLUMNS = (
    'The columns are "{0}" (the {0}), "first passage" and "last passage" (the numbers of the first and the last '
    'passage that mention the {0}), and "passages" (the number of passages that mention it).'
)


def table(shown: VisibleText, draw: random.Random, limits: Limits) -> TaskSample:
    return first_of((_words, _years), shown, draw, limits)


def _words(shown: VisibleText, draw: random.Random, limits: Limits) -> TaskSample:
    terms = [term for term in shuffled(shown.terms, draw) if 2 <= len(term.counts) <= limits.most]
    chosen = terms[: draw.randint(FEWEST_WORDS, MOST_WORDS)]
    if len(chosen) < FEWEST_WORDS:
        raise NothingToAsk("few_terms")
    words = quoted_list([term.word for term in chosen])
    question = (
        f"Make a table with one row for each of these words: {words}. {COLUMNS.format('word')} {prompts.MENTION_RULE}"
    )
    return _table("words", "word", question, [(term.word, term.passages) for term in chosen], draw)


def _years(shown: VisibleText, draw: random.Random, limits: Limits) -> TaskSample:
    years = list(shown.years.items())
    if not limits.least <= len(years) <= limits.most:
        raise NothingToAsk("few_years")
    question = (
        f"Make a table with one row for each year mentioned in the text. {COLUMNS.format('year')} {prompts.YEAR_RULE}"
    )
    return _table("years", "year", question, years, draw)


def _table(
    kind: str, key: str, question: str, mentions: list[tuple[Any, list[int]]], draw: random.Random
) -> TaskSample:
    """mentions: each word or year, with the numbers of the passages that mention it, ascending."""
    columns = [key, *PLACES]
    rows = [[name, numbers[0], numbers[-1], len(numbers)] for name, numbers in mentions]
    wrong = [list(row) for row in rows]
    wrong[draw.randrange(len(wrong))][draw.randrange(1, len(columns))] += 1
    gold, neighbour = ({"columns": columns, "data": data} for data in (rows, wrong))
    return TaskSample(kind, question, prompts.answer_table(columns), gold, neighbour)
