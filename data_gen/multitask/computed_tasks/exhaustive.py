"""Task golongrl_exhaustive (F1): all passages that mention a word, one of two words, or a word without another; all
years. What is to be found is never most of the text, and lies over at least half of it."""

from __future__ import annotations

import random
from collections.abc import Iterator

from data_gen.multitask import prompts
from data_gen.multitask.computed_tasks.task import PAIRS, Limits, Made, Unsuited, first_of
from data_gen.multitask.terms import Term, shuffled
from data_gen.multitask.visible_text import Shown

PASSAGES = prompts.lines("the numbers of these passages")
YEARS = prompts.lines("these years")


def exhaustive(shown: Shown, draw: random.Random, limits: Limits) -> Made:
    return first_of((_mention, _either, _without, _years), shown, draw, limits)


def _mention(shown: Shown, draw: random.Random, limits: Limits) -> Made:
    for term in shuffled(shown.terms, draw):
        if _fits(shown, term.passages, limits):
            return _passages("mention", f'Which passages mention "{term.word}"?', term.passages, shown, draw)
    raise Unsuited("few_terms")


def _either(shown: Shown, draw: random.Random, limits: Limits) -> Made:
    for one, other in _pairs(shown, draw):
        numbers = sorted({*one.passages, *other.passages})
        if _fits(shown, numbers, limits) and not set(one.passages) & set(other.passages):
            question = f'Which passages mention "{one.word}" or "{other.word}"?'
            return _passages("either", question, numbers, shown, draw)
    raise Unsuited("few_terms")


def _without(shown: Shown, draw: random.Random, limits: Limits) -> Made:
    for one, other in _pairs(shown, draw):
        numbers = sorted(set(one.passages) - set(other.passages))
        if _fits(shown, numbers, limits) and len(numbers) < len(one.passages):
            question = f'Which passages mention "{one.word}" and do not mention "{other.word}"?'
            return _passages("without", question, numbers, shown, draw)
    raise Unsuited("few_terms")


def _years(shown: Shown, draw: random.Random, limits: Limits) -> Made:
    found = list(shown.years)
    first_places = sorted(shown.years[year][0] for year in found)
    if not limits.least <= len(found) <= limits.most or not shown.is_spread(first_places):
        raise Unsuited("few_years")
    question = f"Which years are mentioned in the text? List each once, in any order. {prompts.YEAR_RULE}"
    wrong = draw.choice([year for near in found for year in (near - 1, near + 1) if year not in found])
    return Made("years", question, YEARS, list(map(str, found)), list(map(str, [wrong, *found[1:]])), numbered=False)


def _pairs(shown: Shown, draw: random.Random) -> Iterator[tuple[Term, Term]]:
    """Different words, in random order, names first."""
    terms = shuffled(shown.terms, draw)
    for _ in range(PAIRS if len(terms) > 1 else 0):
        one, other = draw.sample(terms[: max(12, len(terms) // 4)], 2)
        yield one, other


def _fits(shown: Shown, numbers: list[int], limits: Limits) -> bool:
    """Whether passages are as many as may be asked for, less than half of all, and far apart."""
    few = limits.least <= len(numbers) <= min(limits.most, (len(shown) - 1) // 2)
    return few and shown.is_spread(numbers)


def _passages(kind: str, question: str, numbers: list[int], shown: Shown, draw: random.Random) -> Made:
    others = [number for number in range(1, len(shown) + 1) if number not in numbers]
    near = [number for number in others if {number - 1, number + 1} & set(numbers)]
    wrong = [draw.choice(near), *numbers[1:]]
    return Made(kind, f"{question} {prompts.WORD_RULE}", PASSAGES, list(map(str, numbers)), list(map(str, wrong)))
