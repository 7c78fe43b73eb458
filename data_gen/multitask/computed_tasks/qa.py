"""Task golongrl_qa (accuracy of the first line): the one passage in which two words meet that are elsewhere apart; of
some words the most frequent, or the one that comes last."""

from __future__ import annotations

import random

from data_gen.multitask import prompts
from data_gen.multitask.computed_tasks.task import PAIRS, Limits, Made, Unsuited, first_of, listed
from data_gen.multitask.terms import Term, shuffled
from data_gen.multitask.visible_text import Shown

CANDIDATES = 8
MARGIN = 1.25
"""The most frequent word is at least so many times as frequent as the next."""
PASSAGE = prompts.first_line("the number of this passage")
WORD = prompts.first_line("this word")


def qa(shown: Shown, draw: random.Random, limits: Limits) -> Made:
    return first_of((_meeting, _most, _last), shown, draw, limits)


def _meeting(shown: Shown, draw: random.Random, limits: Limits) -> Made:
    terms = [term for term in shuffled(shown.terms, draw) if len(term.counts) >= limits.least]
    for _ in range(PAIRS if len(terms) > 1 else 0):
        one, other = draw.sample(terms[: max(12, len(terms) // 4)], 2)
        both = sorted(set(one.passages) & set(other.passages))
        if len(both) == 1:
            question = f'Which passage mentions both "{one.word}" and "{other.word}"? {prompts.WORD_RULE}'
            wrong = draw.choice([n for n in one.passages + other.passages if n not in both])
            return Made("meeting", question, PASSAGE, str(both[0]), str(wrong))
    raise Unsuited("few_terms")


def _most(shown: Shown, draw: random.Random, limits: Limits) -> Made:
    terms = [term for term in shuffled(shown.terms, draw) if limits.least <= term.total <= 2 * limits.most]
    candidates = terms[: 2 * CANDIDATES]
    ranked = sorted(candidates, key=lambda term: -term.total)
    for at in range(len(ranked) - 2):
        best, others = ranked[at], ranked[at + 1 :]
        if best.total >= MARGIN * others[0].total:
            question = "Which of these words stands most often in the text: {}? " + prompts.WORD_RULE
            return _word("most", question, best, others[: CANDIDATES - 1], draw)
    raise Unsuited("few_terms")


def _last(shown: Shown, draw: random.Random, limits: Limits) -> Made:
    terms = shuffled(shown.terms, draw)[:CANDIDATES]
    ranked = sorted(terms, key=lambda term: -term.passages[0])
    if len(ranked) < limits.least or ranked[0].passages[0] == ranked[1].passages[0]:
        raise Unsuited("few_terms")
    question = (
        "Each of these words stands in the text: {}. Which of them is the last to be mentioned for the first time? "
        + prompts.WORD_RULE
    )
    return _word("last", question, ranked[0], ranked[1:], draw)


def _word(kind: str, question: str, best: Term, others: list[Term], draw: random.Random) -> Made:
    words = [best.word, *(term.word for term in others)]
    named = listed(draw.sample(words, len(words)))
    return Made(kind, question.format(named), WORD, best.word, others[0].word, numbered=False)
