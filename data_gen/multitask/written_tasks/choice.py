"""Task golongrl_choice (accuracy), written: a question about several places of the text with four options, put in
random order here."""

from __future__ import annotations

import random
import re
from typing import Any

from data_gen.llm_json import BrokenRule
from data_gen.multitask import prompts
from data_gen.multitask.computed_tasks.task import Made
from data_gen.multitask.written_tasks import writing_brief
from data_gen.multitask.written_tasks.options import WriteOptions
from data_gen.multitask.written_tasks.writing_brief import Brief, Written
from data_gen.text import words

LETTERS = "ABCD"
MAX_OPTION_WORDS = 40
_REFERS = re.compile(r"\b(?:of the above|of these|of the options|both [A-D]\b|options? [A-D]\b)", re.IGNORECASE)
_INSTRUCTION = """You write examination questions about long texts. Write one about the text above, with one right \
option and three wrong ones, such that
{rules}
- the wrong options are as long and as specific as the right one, they fit the text's subject, someone who has not \
read all of it could believe them, and each of them is wrong by what the text says;
- no option refers to another one.

Reply with one JSON object and nothing else, with these keys:
  "question": the question, without the options
  "answer": the right option, at most {words} words
  "distractors": the three wrong ones
{evidence}
{or_not}"""
_SCHEMA = writing_brief.schema(
    question=writing_brief.TEXT,
    answer=writing_brief.TEXT,
    distractors=writing_brief.TEXTS,
    evidence=writing_brief.TEXTS,
    explanation=writing_brief.TEXT,
)


def choice(draw: random.Random, options: WriteOptions) -> Brief:
    kind, order = draw.choice(sorted(writing_brief.KINDS)), draw.sample(range(len(LETTERS)), len(LETTERS))
    right = LETTERS[order.index(0)]
    neighbour = draw.choice([letter for letter in LETTERS if letter != right])

    def read(found: dict[str, Any]) -> Written:
        question = writing_brief.question(found)
        texts = [writing_brief.one_line(found, "answer", MAX_OPTION_WORDS), *writing_brief.lines(found, "distractors")]
        if len(texts) != len(LETTERS) or len({" ".join(words(text)) or text for text in texts}) < len(texts):
            raise BrokenRule(f"wrong_options: {texts!r}; expected {len(LETTERS)} different ones")
        if refers := next(filter(None, map(_REFERS.search, texts)), None):
            raise BrokenRule(f"wrong_options: {refers[0]!r} refers to others")
        if long := next((text for text in texts if len(text.split()) > MAX_OPTION_WORDS), None):
            raise BrokenRule(f"long_answer: {len(long.split())} words in an option")
        listed = "\n".join(f"({letter}) {texts[place]}" for letter, place in zip(LETTERS, order, strict=True))
        made = Made(kind, f"{question}\n\n{listed}", prompts.CHOICE, right, neighbour, numbered=False)
        return Written(made, writing_brief.lines(found, "evidence"), str(found["explanation"]).strip())

    instruction = _INSTRUCTION.format(
        rules=writing_brief.RULES.format(kind=writing_brief.KINDS[kind], evidence=options.min_evidence),
        evidence=writing_brief.EVIDENCE.format(evidence=options.min_evidence),
        words=MAX_OPTION_WORDS,
        or_not=writing_brief.OR_NOT,
    )
    return Brief(instruction, _SCHEMA, read)
