"""Task golongrl_qa (accuracy of the first line), written: a question about several places of the text, with a short
answer, other ways to write it, and a wrong one."""

from __future__ import annotations

import random
from typing import Any

from data_gen.multitask import prompts
from data_gen.multitask.computed_tasks.task import Made
from data_gen.multitask.written_tasks import writing_brief
from data_gen.multitask.written_tasks.options import WriteOptions
from data_gen.multitask.written_tasks.writing_brief import Brief, Written

MOST_ALIASES = 4
ANSWER = prompts.first_line("the answer, as short as it can be")
_INSTRUCTION = """You write examination questions about long texts. Write one about the text above, and its answer, \
such that
{rules}
- there is one right answer, a name, date, number or phrase of at most {words} words, and few ways to write it.

Reply with one JSON object and nothing else, with these keys:
  "question": the question
  "answer": the answer as it is best written
  "aliases": other ways to write this very answer, at most {aliases}, maybe none
  "wrong": a wrong answer of the same kind, as a careless reader would give it
{evidence}
{or_not}"""
_SCHEMA = writing_brief.schema(
    question=writing_brief.TEXT,
    answer=writing_brief.TEXT,
    aliases=writing_brief.TEXTS,
    wrong=writing_brief.TEXT,
    evidence=writing_brief.TEXTS,
    explanation=writing_brief.TEXT,
)


def qa(draw: random.Random, options: WriteOptions) -> Brief:
    kind = draw.choice(sorted(writing_brief.KINDS))

    def read(found: dict[str, Any]) -> Written:
        question, most = writing_brief.question(found), options.max_answer_words
        answer, wrong = (writing_brief.one_line(found, key, most) for key in ("answer", "wrong"))
        aliases = [alias for alias in writing_brief.lines(found, "aliases") if len(alias.split()) <= most]
        golds = list(dict.fromkeys([answer, *aliases[:MOST_ALIASES]]))
        made = Made(kind, question, ANSWER, golds, wrong, numbered=False)
        return Written(made, writing_brief.lines(found, "evidence"), str(found["explanation"]).strip())

    instruction = _INSTRUCTION.format(
        rules=writing_brief.RULES.format(kind=writing_brief.KINDS[kind], evidence=options.min_evidence),
        evidence=writing_brief.EVIDENCE.format(evidence=options.min_evidence),
        words=options.max_answer_words,
        aliases=MOST_ALIASES,
        or_not=writing_brief.OR_NOT,
    )
    return Brief(instruction, _SCHEMA, read)
