"""Task golongrl_ordering (pairs in order): sentences of the text, shuffled, are put in the order of the text."""

from __future__ import annotations

import random

from data_gen.multitask import prompts
from data_gen.multitask.computed_tasks.task import Limits, Made, Unsuited, swapped
from data_gen.multitask.visible_text import Shown

FEWEST, MOST = 4, 8
ANSWER = prompts.lines("the labels of the sentences in this order, such as S3")


def ordering(shown: Shown, draw: random.Random, limits: Limits) -> Made:
    quotes = shown.quotes(draw.randint(FEWEST, MOST), draw)
    if len(quotes) < FEWEST:
        raise Unsuited("few_quotes")
    order = draw.sample(range(len(quotes)), len(quotes))
    if order == sorted(order):
        order.reverse()
    labels = [f"S{order.index(place) + 1}" for place in range(len(quotes))]
    shuffled = "\n".join(f"S{label}: {quotes[place][1]}" for label, place in enumerate(order, 1))
    question = f"These sentences of the text were shuffled:\n\n{shuffled}\n\nIn which order do they stand in the text?"
    return Made("sentences", question, ANSWER, labels, swapped(labels, draw), numbered=False)
