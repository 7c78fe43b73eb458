"""Prompts of the multitask pipeline: a text, whole or as numbered passages, a question about it, and how to answer.

The wording is this project's own. Each answer instruction asks for the format that the task's reward reads
(`verl_longrl/rewards/tasks/golongrl.py`). Everything the model needs is in the user's turn, so a row means the same
under any chat template. tests/data_gen/snapshots shows every prompt as a model reads it.
"""

from __future__ import annotations

from collections.abc import Sequence

from data_gen.answer_templates import THINK_FIRST

OPENING = "Read the following text.\n\n"
OPENING_NUMBERED = "Read the following text, which is divided into numbered passages.\n\n"
CLOSING = "\n\n(The text ends here.)\n\n"
_THINK = THINK_FIRST["English"]

# Rules that make a question mean exactly what terms.py counts: 's is stripped whatever it stands for (Arden's mill,
# Arden's gone), and a word of which the text has another form is never asked about.
COUNT_RULE = "Ignore case. Also count a word when it is followed by 's, but do not count any other form of it."
MENTION_RULE = "Ignore case. A word followed by 's also counts as a mention, but no other form of the word does."
YEAR_RULE = "Treat every four-digit number from 1000 to 2099 as a year."

BOXED_NUMBER = _THINK + "give the number, and nothing else, inside \\boxed{}."
CHOICE_LETTER = (
    _THINK + 'write "The correct answer is (X)", where X is the letter of the correct option, and nothing else.'
)
SUMMARY = _THINK + "write [Answer] on a line by itself and, below it, the summary and nothing else."
SENTENCE = _THINK + "write that sentence, word for word as it appears in the text, and nothing else."

CLOSED_BOOK = """The following question is about a text that is not shown to you. Answer it as well as you can from \
what you know, and guess if you do not know."""
RATE_SUMMARY = """Below is a summary that was written in response to this request: {question}

Summary: {summary}

Check it against the text above. Rate each of the following from 0 (useless) to 10 (nothing to improve):
  "coverage": the summary covers the most important points of what was requested, from all parts of the text, and \
includes nothing unimportant
  "faithfulness": everything the summary says is stated in the text, and nothing is distorted
In "remark", name its greatest weakness in at most 30 words. Be strict. Reply with one JSON object with the keys \
"remark", "coverage" and "faithfulness", and nothing else."""


def plural(number: int, noun: str) -> str:
    """The number and its noun: "1 word", "12 words"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def answer_lines(items: str) -> str:
    """How to answer with a list of items, such as "the numbers of those passages"."""
    return f"{_THINK}write [Answer] on a line by itself and, below it, {items}, one per line, and nothing else."


def answer_line(item: str) -> str:
    """How to answer with a single line."""
    return f"{_THINK}write [Answer] on a line by itself and, on the next line, {item} and nothing else."


def answer_table(columns: Sequence[str]) -> str:
    """How to answer with a table of these columns."""
    names = ", ".join(f'"{name}"' for name in columns)
    return (
        f'{_THINK}give the table as JSON in this form: <answer>{{"columns": [{names}], "data": [[...], [...]]}}'
        '</answer>. Each list in "data" is one row, with its cells in the order of the columns.'
    )


def heading(number: int) -> str:
    """The line above passage `number` (from 1)."""
    return f"Passage {number}:\n"


def numbered_text(passages: Sequence[str]) -> str:
    """The passages, each below its number."""
    return OPENING_NUMBERED + "\n\n".join(heading(number) + passage for number, passage in enumerate(passages, 1))


def plain_text(passages: Sequence[str]) -> str:
    """The passages one after another, without numbers."""
    return OPENING + "\n\n".join(passages)


def instruction_messages(passages: Sequence[str], instruction: str) -> list[dict[str, str]]:
    """The conversation that shows a text and then an instruction about it."""
    return [{"role": "user", "content": f"{plain_text(passages)}{CLOSING}{instruction}"}]


def question_messages(passages: Sequence[str], question: str, answer_as: str, numbered: bool) -> list[dict[str, str]]:
    """The conversation that shows the passages, with or without numbers, a question about them, and how to answer."""
    text = numbered_text(passages) if numbered else plain_text(passages)
    return [{"role": "user", "content": f"{text}{CLOSING}{question}\n\n{answer_as}"}]
