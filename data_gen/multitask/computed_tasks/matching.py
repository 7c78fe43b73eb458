"""Task golongrl_matching (SubEM): quoted sentences are assigned to the numbered passages that contain them."""

from __future__ import annotations

import random

from data_gen.multitask import prompts
from data_gen.multitask.computed_tasks.task import Limits, NothingToAsk, TaskSample
from data_gen.multitask.visible_text import VisibleText

FEWEST, MOST = 4, 8
ANSWER = prompts.answer_lines("the label of each sentence and the number of its passage, such as S3: 12")


def matching(shown: VisibleText, draw: random.Random, limits: Limits) -> TaskSample:
    quotes = shown.quotes(draw.randint(FEWEST, MOST), draw)
    if len(quotes) < FEWEST:
        raise NothingToAsk("few_quotes")
    draw.shuffle(quotes)
    sentences = "\n".join(f"S{label}: {quote}" for label, (_, quote) in enumerate(quotes, 1))
    question = f"Here are some sentences from the text:\n\n{sentences}\n\nWhich passage contains each sentence?"
    numbers = [number for number, _ in quotes]
    # The neighbour puts one of the sentences into the next passage, or from the last one into the one before.
    wrong, at = list(numbers), draw.randrange(len(numbers))
    wrong[at] += -1 if wrong[at] == len(shown) else 1
    return TaskSample("sentences", question, ANSWER, _lines(numbers), _lines(wrong))


def _lines(numbers: list[int]) -> list[str]:
    return [f"S{label}: {number}" for label, number in enumerate(numbers, 1)]
