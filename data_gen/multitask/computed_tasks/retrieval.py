"""Task golongrl_retrieval (EM): the sentence that follows, or comes before, one that stands in the text once."""

from __future__ import annotations

import itertools
import random

from data_gen.multitask import prompts
from data_gen.multitask.computed_tasks.task import Limits, Made, Unsuited
from data_gen.multitask.visible_text import Shown

QUESTIONS = {
    "after": "Which sentence of the text comes directly after this one?\n\n{}",
    "before": "Which sentence of the text comes directly before this one?\n\n{}",
}


def retrieval(shown: Shown, draw: random.Random, limits: Limits) -> Made:
    kind = draw.choice(sorted(QUESTIONS))
    for number in draw.sample(range(1, len(shown) + 1), len(shown)):
        pairs = [pair for run in shown.runs(number) for pair in itertools.pairwise(run)]
        for first, second in draw.sample(pairs, len(pairs)):
            given, gold = (first, second) if kind == "after" else (second, first)
            if shown.once(given) and first != second:
                return Made(kind, QUESTIONS[kind].format(given), prompts.BARE, gold, given, numbered=False)
    raise Unsuited("few_quotes")
