"""Task golongrl_qa (accuracy of the first line), written: a question about several places of the text, with a short
answer, other ways to write it, and a wrong one."""

from __future__ import annotations

import random
from typing import Any

from data_gen.multitask import prompts
from data_gen.multitask.tasks.task import Made
from data_gen.multitask.written import brief
from data_gen.multitask.written.brief import Brief, Written
from data_gen.multitask.written.options import WriteOptions

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
_SCHEMA = brief.schema(
    question=brief.TEXT,
    answer=brief.TEXT,
    aliases=brief.TEXTS,
    wrong=brief.TEXT,
    evidence=brief.TEXTS,
    explanation=brief.TEXT,
)


def qa(draw: random.Random, options: WriteOptions) -> Brief:
    kind = draw.choice(sorted(brief.KINDS))

    def read(found: dict[str, Any]) -> Written:
        question, most = brief.question(found), options.max_answer_words
        answer, wrong = (brief.one_line(found, key, most) for key in ("answer", "wrong"))
        aliases = [alias for alias in brief.lines(found, "aliases") if len(alias.split()) <= most]
        golds = list(dict.fromkeys([answer, *aliases[:MOST_ALIASES]]))
        made = Made(kind, question, ANSWER, golds, wrong, numbered=False)
        return Written(made, brief.lines(found, "evidence"), str(found["explanation"]).strip())

    instruction = _INSTRUCTION.format(
        rules=brief.RULES.format(kind=brief.KINDS[kind], evidence=options.min_evidence),
        evidence=brief.EVIDENCE.format(evidence=options.min_evidence),
        words=options.max_answer_words,
        aliases=MOST_ALIASES,
        or_not=brief.OR_NOT,
    )
    return Brief(instruction, _SCHEMA, read)
