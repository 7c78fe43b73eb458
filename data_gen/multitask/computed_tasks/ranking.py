"""Task golongrl_ranking (NDCG): of several words, those that appear most often in the text, the most frequent first."""

from __future__ import annotations

import random

from data_gen.multitask import prompts
from data_gen.multitask.computed_tasks.task import Limits, NothingToAsk, TaskSample, quoted_list, swap_neighbours
from data_gen.multitask.terms import Term, shuffled
from data_gen.multitask.visible_text import VisibleText

CANDIDATES, RANKED, FEWEST = 9, 5, 4
APART = 0.15
"""Two words differ in frequency by at least this share of the larger, and by one: there are no ties."""


def ranking(shown: VisibleText, draw: random.Random, limits: Limits) -> TaskSample:
    chosen: list[Term] = []
    for term in shuffled(shown.terms, draw):
        if len(chosen) < CANDIDATES and term.total <= 2 * limits.most and all(_apart(term, other) for other in chosen):
            chosen.append(term)
    if len(chosen) < FEWEST:
        raise NothingToAsk("few_terms")
    chosen.sort(key=lambda term: -term.total)
    # Of FEWEST words or more, at least three are ranked and at least one is left out.
    count = min(RANKED, len(chosen) - 1)
    words = [term.word for term in chosen]
    question = (
        f"Which {count} of these words appear most often in the text: {quoted_list(draw.sample(words, len(words)))}? "
        f"List them from most to least frequent. {prompts.COUNT_RULE}"
    )
    answer_as, gold = prompts.answer_lines(f"the {count} words in that order"), words[:count]
    return TaskSample("frequency", question, answer_as, gold, swap_neighbours(gold, draw), numbered=False)


def _apart(one: Term, other: Term) -> bool:
    return abs(one.total - other.total) >= max(1, APART * max(one.total, other.total))
