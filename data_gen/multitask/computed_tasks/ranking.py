"""Task golongrl_ranking (NDCG): of some words, those that stand most often in the text, the most frequent one first."""

from __future__ import annotations

import random

from data_gen.multitask import prompts
from data_gen.multitask.computed_tasks.task import Limits, Made, Unsuited, listed, swapped
from data_gen.multitask.terms import Term, shuffled
from data_gen.multitask.visible_text import Shown

CANDIDATES, RANKED, FEWEST = 9, 5, 4
APART = 0.15
"""Two words differ in frequency by at least this share of the larger, and by one."""


def ranking(shown: Shown, draw: random.Random, limits: Limits) -> Made:
    chosen: list[Term] = []
    for term in shuffled(shown.terms, draw):
        if len(chosen) < CANDIDATES and term.total <= 2 * limits.most and all(_apart(term, other) for other in chosen):
            chosen.append(term)
    if len(chosen) < FEWEST:
        raise Unsuited("few_terms")
    chosen.sort(key=lambda term: -term.total)
    asked = min(RANKED, len(chosen) - 1)
    words = [term.word for term in chosen]
    question = (
        f"How often does each of these words stand in the text: {listed(draw.sample(words, len(words)))}? Give the "
        f"{asked} that stand there most often, the most frequent one first. {prompts.WORD_RULE}"
    )
    answer = prompts.lines(f"the {asked} words in this order")
    return Made("frequency", question, answer, words[:asked], swapped(words[:asked], draw), numbered=False)


def _apart(one: Term, other: Term) -> bool:
    return abs(one.total - other.total) >= max(1, APART * max(one.total, other.total))
