"""What a model is shown: a text, whole or as numbered passages, what is asked about it, and how to answer.

The wording is this project's own. How to answer is what the task's reward reads
(`verl_longrl/rewards/tasks/golongrl.py`); everything the model needs is in the user's turn.
"""

from __future__ import annotations

from collections.abc import Sequence

OPENING = "Read the following text.\n\n"
OPENING_NUMBERED = "Read the following text, which is divided into numbered passages.\n\n"
CLOSING = "\n\n(The text ends here.)\n\n"
_THINK = "Think step by step first and end your reasoning with </think>. Then "
WORD_RULE = "Capital and small letters are the same here. The word counts also before 's, and no other form of it does."
YEAR_RULE = "A year is any number from 1000 to 2099 that is written with four digits."

BOXED = _THINK + "give the number, and nothing else, inside \\boxed{}."
CHOICE = _THINK + 'write "The correct answer is (X)" with the letter of the right option for X, and nothing else.'
SUMMARY = _THINK + "write [Answer] on a line of its own, and below it the summary, and nothing else."
BARE = _THINK + "write that sentence, word for word as it stands in the text, and nothing else."


def lines(what: str) -> str:
    """How to answer with a list, such as "the numbers of these passages"."""
    return f"{_THINK}write [Answer] on a line of its own, and below it {what}, one on each line, and nothing else."


def first_line(what: str) -> str:
    """How to answer with one text."""
    return f"{_THINK}write [Answer] on a line of its own, and below it {what}, and nothing else."


def table(columns: Sequence[str]) -> str:
    """How to answer with a table of these columns."""
    names = ", ".join(f'"{name}"' for name in columns)
    return (
        f'{_THINK}give the table as JSON, written like this: <answer>{{"columns": [{names}], "data": [[...], [...]]}}'
        "</answer>, with one list in data for each row, its cells in the order of the columns."
    )


def heading(number: int) -> str:
    """What stands above passage `number` (from 1)."""
    return f"Passage {number}:\n"


def with_numbers(passages: Sequence[str]) -> str:
    """The passages, each below its number."""
    return OPENING_NUMBERED + "\n\n".join(heading(number) + passage for number, passage in enumerate(passages, 1))


def whole(passages: Sequence[str]) -> str:
    """The passages one after another, without numbers."""
    return OPENING + "\n\n".join(passages)


def asked(passages: Sequence[str], what: str) -> list[dict[str, str]]:
    """The conversation in which something is asked about a text, in the words of `what`."""
    return [{"role": "user", "content": f"{whole(passages)}{CLOSING}{what}"}]


def messages(passages: Sequence[str], question: str, answer_as: str, numbered: bool) -> list[dict[str, str]]:
    """The conversation: the passages, with or without their numbers, the question about them, how to answer."""
    body = with_numbers(passages) if numbered else whole(passages)
    return [{"role": "user", "content": f"{body}{CLOSING}{question}\n\n{answer_as}"}]
