r"""Task golongrl_math (math-verify): a number that is counted, or computed from things counted all over the text."""

from __future__ import annotations

import random

from data_gen.multitask import prompts
from data_gen.multitask.computed_tasks.task import PAIRS, Limits, NothingToAsk, TaskSample, first_of
from data_gen.multitask.terms import shuffled
from data_gen.multitask.visible_text import VisibleText


def counting(shown: VisibleText, draw: random.Random, limits: Limits) -> TaskSample:
    return first_of((_occurrences, _passages, _difference, _distance, _years), shown, draw, limits)


def _occurrences(shown: VisibleText, draw: random.Random, limits: Limits) -> TaskSample:
    for term in shuffled(shown.terms, draw):
        if limits.least <= term.total <= limits.most and shown.is_spread(term.passages):
            question = f'How many times does the word "{term.word}" appear in the text? {prompts.COUNT_RULE}'
            return _number("occurrences", question, term.total, draw, numbered=False)
    raise NothingToAsk("few_terms")


def _passages(shown: VisibleText, draw: random.Random, limits: Limits) -> TaskSample:
    for term in shuffled(shown.terms, draw):
        count = len(term.counts)
        # With fewer passages than occurrences, counting one for the other is wrong.
        if limits.least <= count <= limits.most and count < term.total and shown.is_spread(term.passages):
            question = f'How many passages mention the word "{term.word}"? {prompts.MENTION_RULE}'
            return _number("passages", question, count, draw)
    raise NothingToAsk("few_terms")


def _difference(shown: VisibleText, draw: random.Random, limits: Limits) -> TaskSample:
    terms = [term for term in shuffled(shown.terms, draw) if limits.least <= term.total <= limits.most]
    for _ in range(PAIRS if len(terms) > 1 else 0):
        more, less = draw.sample(terms[: max(12, len(terms) // 4)], 2)
        if more.total - less.total > 1 and shown.is_spread(sorted({*more.counts, *less.counts})):
            question = (
                f'How many more times does the word "{more.word}" appear in the text than the word "{less.word}"? '
                f"Give the difference between the two counts. {prompts.COUNT_RULE}"
            )
            return _number("difference", question, more.total - less.total, draw, numbered=False)
    raise NothingToAsk("few_terms")


def _distance(shown: VisibleText, draw: random.Random, limits: Limits) -> TaskSample:
    for term in shuffled(shown.terms, draw):
        numbers = term.passages
        if limits.least <= len(numbers) <= limits.most and shown.is_spread(numbers):
            question = (
                f'Find the first and the last passage that mention the word "{term.word}". What is the number of the '
                f"last passage minus the number of the first? {prompts.MENTION_RULE}"
            )
            return _number("distance", question, numbers[-1] - numbers[0], draw)
    raise NothingToAsk("few_terms")


def _years(shown: VisibleText, draw: random.Random, limits: Limits) -> TaskSample:
    years = list(shown.years)
    if len(years) < limits.least or years[0] + 1 >= years[-1]:
        raise NothingToAsk("few_years")
    question = (
        "What is the difference in years between the earliest and the latest year mentioned in the text? "
        + prompts.YEAR_RULE
    )
    return _number("years", question, years[-1] - years[0], draw, numbered=False)


def _number(kind: str, question: str, value: int, draw: random.Random, numbered: bool = True) -> TaskSample:
    neighbour = value + draw.choice((-1, 1))
    return TaskSample(kind, question, prompts.BOXED_NUMBER, str(value), str(neighbour), numbered)
