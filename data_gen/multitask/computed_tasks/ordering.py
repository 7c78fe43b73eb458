"""Task golongrl_ordering (pairs in order): shuffled sentences are put into the order of the text."""

from __future__ import annotations

import random

from data_gen.multitask import prompts
from data_gen.multitask.computed_tasks.task import Limits, NothingToAsk, TaskSample, swap_neighbours
from data_gen.multitask.visible_text import VisibleText

FEWEST, MOST = 4, 8
ANSWER = prompts.answer_lines("the labels of the sentences in that order, such as S3")


def ordering(shown: VisibleText, draw: random.Random, limits: Limits) -> TaskSample:
    quotes = shown.quotes(draw.randint(FEWEST, MOST), draw)
    if len(quotes) < FEWEST:
        raise NothingToAsk("few_quotes")
    # order[i]: the place in the text of the sentence that is listed as S(i + 1).
    order = draw.sample(range(len(quotes)), len(quotes))
    if order == sorted(order):
        order.reverse()
    labels = [f"S{order.index(place) + 1}" for place in range(len(quotes))]
    sentences = "\n".join(f"S{label}: {quotes[place][1]}" for label, place in enumerate(order, 1))
    question = (
        f"Here are some sentences from the text, in random order:\n\n{sentences}\n\n"
        "List them in the order in which they appear in the text."
    )
    return TaskSample("sentences", question, ANSWER, labels, swap_neighbours(labels, draw), numbered=False)
