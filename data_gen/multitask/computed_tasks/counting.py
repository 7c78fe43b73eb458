r"""Task golongrl_math (math-verify): a number that is counted, or computed from what is found all over the text."""

from __future__ import annotations

import random

from data_gen.multitask import prompts
from data_gen.multitask.computed_tasks.task import PAIRS, Limits, Made, Unsuited, first_of
from data_gen.multitask.terms import shuffled
from data_gen.multitask.visible_text import Shown


def counting(shown: Shown, draw: random.Random, limits: Limits) -> Made:
    return first_of((_occurrences, _passages, _difference, _distance, _years), shown, draw, limits)


def _occurrences(shown: Shown, draw: random.Random, limits: Limits) -> Made:
    for term in shuffled(shown.terms, draw):
        if limits.least <= term.total <= limits.most and shown.is_spread(term.passages):
            question = f'How many times does the word "{term.word}" stand in the text? {prompts.WORD_RULE}'
            return _number("occurrences", question, term.total, draw, numbered=False)
    raise Unsuited("few_terms")


def _passages(shown: Shown, draw: random.Random, limits: Limits) -> Made:
    for term in shuffled(shown.terms, draw):
        found = len(term.counts)
        if limits.least <= found <= limits.most and found < term.total and shown.is_spread(term.passages):
            question = f'How many of the passages mention the word "{term.word}"? {prompts.WORD_RULE}'
            return _number("passages", question, found, draw)
    raise Unsuited("few_terms")


def _difference(shown: Shown, draw: random.Random, limits: Limits) -> Made:
    terms = [term for term in shuffled(shown.terms, draw) if limits.least <= term.total <= limits.most]
    for _ in range(PAIRS if len(terms) > 1 else 0):
        more, less = draw.sample(terms[: max(12, len(terms) // 4)], 2)
        if more.total - less.total > 1 and shown.is_spread(sorted({*more.counts, *less.counts})):
            question = (
                f'How many times more does the word "{more.word}" stand in the text than the word "{less.word}"? Give '
                f"the difference of the two counts. {prompts.WORD_RULE}"
            )
            return _number("difference", question, more.total - less.total, draw, numbered=False)
    raise Unsuited("few_terms")


def _distance(shown: Shown, draw: random.Random, limits: Limits) -> Made:
    for term in shuffled(shown.terms, draw):
        numbers = term.passages
        if limits.least <= len(numbers) <= limits.most and shown.is_spread(numbers):
            question = (
                f'Take the number of the last passage that mentions the word "{term.word}", and subtract the number of '
                f"the first passage that does. What is the result? {prompts.WORD_RULE}"
            )
            return _number("distance", question, numbers[-1] - numbers[0], draw)
    raise Unsuited("few_terms")


def _years(shown: Shown, draw: random.Random, limits: Limits) -> Made:
    years = list(shown.years)
    if len(years) < limits.least or years[0] + 1 >= years[-1]:
        raise Unsuited("few_years")
    question = (
        f"How many years lie between the earliest and the latest year that the text mentions? Give the difference of "
        f"the two. {prompts.YEAR_RULE}"
    )
    return _number("years", question, years[-1] - years[0], draw, numbered=False)


def _number(kind: str, question: str, value: int, draw: random.Random, numbered: bool = True) -> Made:
    wrong = value + draw.choice((-1, 1))
    return Made(kind, question, prompts.BOXED, str(value), str(wrong), numbered)
