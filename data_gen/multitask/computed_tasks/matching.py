"""Task golongrl_matching (SubEM): sentences of the text are assigned to the numbered passages that they stand in."""

from __future__ import annotations

import random

from data_gen.multitask import prompts
from data_gen.multitask.computed_tasks.task import Limits, Made, Unsuited
from data_gen.multitask.visible_text import Shown

FEWEST, MOST = 4, 8
ANSWER = prompts.lines("the label of each sentence with the number of its passage, such as S3: 12")


def matching(shown: Shown, draw: random.Random, limits: Limits) -> Made:
    quotes = shown.quotes(draw.randint(FEWEST, MOST), draw)
    if len(quotes) < FEWEST:
        raise Unsuited("few_quotes")
    draw.shuffle(quotes)
    sentences = "\n".join(f"S{label}: {quote}" for label, (_, quote) in enumerate(quotes, 1))
    question = f"These are sentences of the text:\n\n{sentences}\n\nWhich passage does each of them stand in?"
    numbers = [number for number, _ in quotes]
    wrong = list(numbers)
    at = draw.randrange(len(wrong))
    wrong[at] = wrong[at] - 1 if wrong[at] == len(shown) else wrong[at] + 1
    return Made("sentences", question, ANSWER, _lines(numbers), _lines(wrong))


def _lines(numbers: list[int]) -> list[str]:
    return [f"S{label}: {number}" for label, number in enumerate(numbers, 1)]
