"""Task golongrl_qa (accuracy of the first line): the only passage that mentions both of two words; of several words the
most frequent, or the one that first appears last."""

from __future__ import annotations

import random

from data_gen.multitask import prompts
from data_gen.multitask.computed_tasks.task import PAIRS, Limits, NothingToAsk, TaskSample, first_of, quoted_list
from data_gen.multitask.terms import Term, shuffled
from data_gen.multitask.visible_text import VisibleText

CANDIDATES = 8
MARGIN = 1.25
"""The most frequent word is at least this many times as frequent as the next."""
PASSAGE = prompts.answer_line("the number of that passage")
WORD = prompts.answer_line("that word")


def qa(shown: VisibleText, draw: random.Random, limits: Limits) -> TaskSample:
    return first_of((_meeting, _most, _last), shown, draw, limits)


def _meeting(shown: VisibleText, draw: random.Random, limits: Limits) -> TaskSample:
    terms = [term for term in shuffled(shown.terms, draw) if len(term.counts) >= limits.least]
    for _ in range(PAIRS if len(terms) > 1 else 0):
        one, other = draw.sample(terms[: max(12, len(terms) // 4)], 2)
        both = sorted(set(one.passages) & set(other.passages))
        if len(both) == 1:
            question = (
                f'Which passage mentions both the word "{one.word}" and the word "{other.word}"? {prompts.MENTION_RULE}'
            )
            neighbour = draw.choice([n for n in one.passages + other.passages if n not in both])
            return TaskSample("meeting", question, PASSAGE, str(both[0]), str(neighbour))
    raise NothingToAsk("few_terms")


def _most(shown: VisibleText, draw: random.Random, limits: Limits) -> TaskSample:
    terms = [term for term in shuffled(shown.terms, draw) if limits.least <= term.total <= 2 * limits.most]
    candidates = terms[: 2 * CANDIDATES]
    ranked = sorted(candidates, key=lambda term: -term.total)
    for at in range(len(ranked) - 2):
        best, others = ranked[at], ranked[at + 1 :]
        if best.total >= MARGIN * others[0].total:
            question = "Which of these words appears most often in the text: {}? " + prompts.COUNT_RULE
            return _word("most", question, best, others[: CANDIDATES - 1], draw)
    raise NothingToAsk("few_terms")


def _last(shown: VisibleText, draw: random.Random, limits: Limits) -> TaskSample:
    terms = shuffled(shown.terms, draw)[:CANDIDATES]
    ranked = sorted(terms, key=lambda term: -term.passages[0])
    if len(ranked) < limits.least or ranked[0].passages[0] == ranked[1].passages[0]:
        raise NothingToAsk("few_terms")
    question = (
        "All of these words appear in the text: {}. Consider where each word is first mentioned: which word's first "
        "mention is closest to the end of the text? " + prompts.MENTION_RULE
    )
    return _word("last", question, ranked[0], ranked[1:], draw)


def _word(kind: str, question: str, best: Term, others: list[Term], draw: random.Random) -> TaskSample:
    """The question about these words, in random order. The neighbour is the next best."""
    words = [best.word, *(term.word for term in others)]
    candidates = quoted_list(draw.sample(words, len(words)))
    return TaskSample(kind, question.format(candidates), WORD, best.word, others[0].word, numbered=False)
