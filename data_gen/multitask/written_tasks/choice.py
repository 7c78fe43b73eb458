"""Task golongrl_choice (accuracy), written by a model: a question about several places of the text with four options,
which are put in random order here."""

from __future__ import annotations

import random
import re
from typing import Any

from data_gen.llm_json import BrokenRule
from data_gen.multitask import prompts
from data_gen.multitask.computed_tasks.task import TaskSample
from data_gen.multitask.written_tasks import writing_brief
from data_gen.multitask.written_tasks.options import WriteOptions
from data_gen.multitask.written_tasks.writing_brief import WritingBrief, WrittenSample
from data_gen.text import words

LETTERS = "ABCD"
MAX_OPTION_WORDS = 40
_REFERS = re.compile(r"\b(?:of the above|of these|of the options|both [A-D]\b|options? [A-D]\b)", re.IGNORECASE)
_INSTRUCTION = """You write exam questions about long texts. Write one multiple-choice question about the text above, \
with one correct option and three wrong ones, such that
{rules}
- the wrong options are as long and as specific as the correct one and fit the subject of the text; someone who has \
not read all of the text could believe them, but the text shows that each of them is wrong;
- no option refers to another one.

Reply with one JSON object and nothing else, with these keys:
  "question": the question, without the options
  "answer": the correct option, in at most {words} words
  "distractors": the three wrong options
{evidence}
{if_impossible}"""
_SCHEMA = writing_brief.object_schema(
    question=writing_brief.TEXT,
    answer=writing_brief.TEXT,
    distractors=writing_brief.TEXTS,
    evidence=writing_brief.TEXTS,
    explanation=writing_brief.TEXT,
)


def choice(draw: random.Random, options: WriteOptions) -> WritingBrief:
    kind, order = draw.choice(sorted(writing_brief.KINDS)), draw.sample(range(len(LETTERS)), len(LETTERS))
    gold = LETTERS[order.index(0)]  # the correct option is the first in the reply
    neighbour = draw.choice([letter for letter in LETTERS if letter != gold])

    def parse_reply(reply: dict[str, Any]) -> WrittenSample:
        question = writing_brief.read_question(reply)
        answer = writing_brief.read_line(reply, "answer", MAX_OPTION_WORDS)
        texts = [answer, *writing_brief.read_lines(reply, "distractors")]
        if len(texts) != len(LETTERS) or len({" ".join(words(text)) or text for text in texts}) < len(texts):
            raise BrokenRule(f"wrong_options: {texts!r}; expected {len(LETTERS)} different ones")
        if reference := next(filter(None, map(_REFERS.search, texts)), None):
            raise BrokenRule(f"wrong_options: {reference[0]!r} refers to other options")
        if too_long := next((text for text in texts if len(text.split()) > MAX_OPTION_WORDS), None):
            raise BrokenRule(f"long_answer: {len(too_long.split())} words in an option")
        listed = "\n".join(f"({letter}) {texts[place]}" for letter, place in zip(LETTERS, order, strict=True))
        sample = TaskSample(kind, f"{question}\n\n{listed}", prompts.CHOICE_LETTER, gold, neighbour, numbered=False)
        return WrittenSample(sample, writing_brief.read_lines(reply, "evidence"), str(reply["explanation"]).strip())

    instruction = _INSTRUCTION.format(
        rules=writing_brief.question_rules(kind, options.min_evidence),
        evidence=writing_brief.evidence_keys(options.min_evidence),
        words=MAX_OPTION_WORDS,
        if_impossible=writing_brief.IF_IMPOSSIBLE,
    )
    return WritingBrief(instruction, _SCHEMA, parse_reply)
