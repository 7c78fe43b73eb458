"""Task golongrl_exhaustive (F1): all passages that mention a word, one of two words, or one word without another; all
years. The passages to find are fewer than half of the text and lie over at least half of it."""

from __future__ import annotations

import random
from collections.abc import Iterator

from data_gen.multitask import prompts
from data_gen.multitask.computed_tasks.task import PAIRS, Limits, NothingToAsk, TaskSample, first_of
from data_gen.multitask.terms import Term, shuffled
from data_gen.multitask.visible_text import VisibleText

PASSAGES = prompts.answer_lines("the numbers of those passages")
YEARS = prompts.answer_lines("those years")


def exhaustive(shown: VisibleText, draw: random.Random, limits: Limits) -> TaskSample:
    return first_of((_mention, _either, _without, _years), shown, draw, limits)


def _mention(shown: VisibleText, draw: random.Random, limits: Limits) -> TaskSample:
    for term in shuffled(shown.terms, draw):
        if _fits(shown, term.passages, limits):
            return _passages("mention", f'Which passages mention the word "{term.word}"?', term.passages, shown, draw)
    raise NothingToAsk("few_terms")


def _either(shown: VisibleText, draw: random.Random, limits: Limits) -> TaskSample:
    for one, other in _pairs(shown, draw):
        numbers = sorted({*one.passages, *other.passages})
        # No passage mentions both, so it makes no difference how a reader takes "or".
        if _fits(shown, numbers, limits) and not set(one.passages) & set(other.passages):
            question = f'Which passages mention the word "{one.word}" or the word "{other.word}"?'
            return _passages("either", question, numbers, shown, draw)
    raise NothingToAsk("few_terms")


def _without(shown: VisibleText, draw: random.Random, limits: Limits) -> TaskSample:
    for one, other in _pairs(shown, draw):
        numbers = sorted(set(one.passages) - set(other.passages))
        if _fits(shown, numbers, limits) and len(numbers) < len(one.passages):
            question = f'Which passages mention the word "{one.word}" but not the word "{other.word}"?'
            return _passages("without", question, numbers, shown, draw)
    raise NothingToAsk("few_terms")


def _years(shown: VisibleText, draw: random.Random, limits: Limits) -> TaskSample:
    years = list(shown.years)
    first_places = sorted(shown.years[year][0] for year in years)
    if not limits.least <= len(years) <= limits.most or not shown.is_spread(first_places):
        raise NothingToAsk("few_years")
    question = f"Which years are mentioned in the text? List each year once, in any order. {prompts.YEAR_RULE}"
    wrong = draw.choice([year for near in years for year in (near - 1, near + 1) if year not in years])
    neighbour = list(map(str, [wrong, *years[1:]]))
    return TaskSample("years", question, YEARS, list(map(str, years)), neighbour, numbered=False)


def _pairs(shown: VisibleText, draw: random.Random) -> Iterator[tuple[Term, Term]]:
    """Pairs of different words, in random order, names first."""
    terms = shuffled(shown.terms, draw)
    for _ in range(PAIRS if len(terms) > 1 else 0):
        one, other = draw.sample(terms[: max(12, len(terms) // 4)], 2)
        yield one, other


def _fits(shown: VisibleText, numbers: list[int], limits: Limits) -> bool:
    """Whether these passages are neither too few nor too many, less than half of all, and far apart."""
    few = limits.least <= len(numbers) <= min(limits.most, (len(shown) - 1) // 2)
    return few and shown.is_spread(numbers)


def _passages(kind: str, question: str, numbers: list[int], shown: VisibleText, draw: random.Random) -> TaskSample:
    others = [number for number in range(1, len(shown) + 1) if number not in numbers]
    beside = [number for number in others if {number - 1, number + 1} & set(numbers)]
    gold, neighbour = list(map(str, numbers)), list(map(str, [draw.choice(beside), *numbers[1:]]))
    return TaskSample(kind, f"{question} {prompts.MENTION_RULE}", PASSAGES, gold, neighbour)
