r"""Import multiple-choice questions: MathQA's problems and LongBench v2's questions about a long text.

MathQA's become `loongrl_choice` (the answer is a letter in \boxed{}), LongBench v2's `golongrl_choice` ("The correct
answer is (X)").

The choices of MathQA are one text, "a ) 38 , b ) 27.675 , c ) rs . 1 , 500 , ..."; a choice may itself contain
commas, so the text is cut where a comma is followed by a letter with its bracket, and the letters must be in order.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from reprlib import repr as short
from string import ascii_uppercase
from typing import Any

from verl_longrl.data.schema import Sample

from data_gen.importers.fields import Unusable, clean, language_of, long_sample, prove_sample, required_text
from data_gen.importers.prompts import TEXT, answer_instruction, question_about
from data_gen.keychain.prompts import messages

TASK, LONG_TASK = "loongrl_choice", "golongrl_choice"
LETTERS = "ABCDE"
_MARK = re.compile(r"(?:^|,)\s*([A-Ea-e])\s*\)")


def import_mathqa(row: Mapping[str, Any]) -> Sample:
    """Import a row with `Problem`, `options` (one text, or a list with or without letters) and `correct`, a letter.

    Raises:
        Unusable: also (no_options) fewer than two, (unreadable_options) out of order, empty or too many,
            (letter_outside) not the letter of a choice, (repeated_option) another choice equals the correct one.
    """
    problem = required_text(row, "Problem", "problem", "question")
    choices = options(row.get("options"))
    letter = _right(required_text(row, "correct"), choices)
    sample = Sample(
        data_source=TASK,
        prompt=messages(f"{problem}\n\nChoices:\n{_listed(choices)}\n\n{answer_instruction(TASK, 'English')}"),
        ground_truth=letter,
        index=0,
        question=problem,
        task=TASK,
        ability="math_choice",
    )
    return prove_sample(sample, letter)


def import_long_choices(row: Mapping[str, Any]) -> Sample:
    """Import a row of LongBench v2 (arXiv 2412.15204).

    It has `context`, `question`, `choice_A` to `choice_D` (or more), and a letter in `answer`.

    Raises:
        Unusable: as `import_mathqa`.
    """
    context, question, language = required_text(row, "context"), required_text(row, "question"), language_of(row)
    names = takewhile(lambda name: row.get(name) is not None, map("choice_{}".format, ascii_uppercase))
    choices = [clean(row[name]) for name in names]
    if len(choices) < 2 or not all(choices):
        raise Unusable("no_options", f"the choices are {short(choices)}, expected text in choice_A, choice_B and so on")
    letter = _right(required_text(row, "answer"), choices)
    listed = f"{question}\n\n{_listed(choices)}"
    prompt = question_about(context, TEXT[language], listed, answer_instruction(LONG_TASK, language))
    return prove_sample(long_sample(LONG_TASK, prompt, letter, question, row), letter, language)


def _right(letter: str, choices: Sequence[str]) -> str:
    """The letter of the correct choice, as a capital. Raises Unusable."""
    capital = letter.strip("() .").upper()
    if len(capital) != 1 or capital not in ascii_uppercase[: len(choices)]:
        last = ascii_uppercase[len(choices) - 1]
        raise Unusable("letter_outside", f"the correct choice is {short(letter)}, expected A to {last}")
    comparable = [" ".join(choice.casefold().split()) for choice in choices]
    if comparable.count(comparable[ascii_uppercase.index(capital)]) > 1:
        raise Unusable("repeated_option", f"the correct choice {capital} appears twice: {short(choices)}")
    return capital


def _listed(choices: Sequence[str]) -> str:
    return "\n".join(f"({mark}) {choice}" for mark, choice in zip(ascii_uppercase, choices, strict=False))


def options(value: Any) -> list[str]:
    """The texts of the choices, in order, without their letters. Raises Unusable."""
    letters, choices = _cut(value)
    choices = [choice.strip(" ,\n\t") for choice in choices]
    if len(choices) < 2:
        raise Unusable("no_options", f"options is {short(value)}, expected at least two, as a ) 38 , b ) 27.675")
    if not all(choices) or len(choices) > len(LETTERS) or letters.upper() != LETTERS[: len(choices)]:
        raise Unusable("unreadable_options", f"options is {short(value)}, expected choices a to e in this order")
    return choices


def _cut(value: Any) -> tuple[str, list[str]]:
    """The letters of the choices, and the text after each. A list without letters gets A, B, C and so on."""
    # A list as Python prints it.
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, RecursionError) as error:
            raise Unusable("unreadable_options", f"options is {short(value)}, expected a list") from error
    if isinstance(value, list):
        items = [clean(item) for item in value]
        marks = [_MARK.match(item) for item in items]
        if any(marks):
            letters = "".join(mark[1] if mark else "?" for mark in marks)
            return letters, [item[mark.end() :] if mark else item for mark, item in zip(marks, items, strict=True)]
        return LETTERS[: len(items)], items
    before, *parts = _MARK.split(clean(value))
    return before.strip() + "".join(parts[0::2]), parts[1::2]
