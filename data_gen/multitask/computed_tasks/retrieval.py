"""Task golongrl_retrieval (EM): the sentence directly after, or before, a quoted one that appears in the text once."""

from __future__ import annotations

import itertools
import random

from data_gen.multitask import prompts
from data_gen.multitask.computed_tasks.task import Limits, NothingToAsk, TaskSample
from data_gen.multitask.visible_text import VisibleText

QUESTIONS = {
    "after": "Which sentence comes directly after this one in the text?\n\n{}",
    "before": "Which sentence comes directly before this one in the text?\n\n{}",
}


def retrieval(shown: VisibleText, draw: random.Random, limits: Limits) -> TaskSample:
    kind = draw.choice(sorted(QUESTIONS))
    for number in draw.sample(range(1, len(shown) + 1), len(shown)):
        pairs = [pair for run in shown.runs(number) for pair in itertools.pairwise(run)]
        for first, second in draw.sample(pairs, len(pairs)):
            quote, gold = (first, second) if kind == "after" else (second, first)
            if shown.contains_once(quote) and first != second:
                question = QUESTIONS[kind].format(quote)
                return TaskSample(kind, question, prompts.SENTENCE, gold, neighbour=quote, numbered=False)
    raise NothingToAsk("few_quotes")
