"""Task golongrl_qa (accuracy of the first line), written by a model: a question about several places of the text, a
short answer, other spellings of it, and a wrong answer."""

from __future__ import annotations

import random
from typing import Any

from data_gen.multitask import prompts
from data_gen.multitask.computed_tasks.task import TaskSample
from data_gen.multitask.written_tasks import writing_brief
from data_gen.multitask.written_tasks.options import WriteOptions
from data_gen.multitask.written_tasks.writing_brief import WritingBrief, WrittenSample

MAX_ALIASES = 4
ANSWER = prompts.answer_line("the answer in as few words as possible")
_INSTRUCTION = """You write exam questions about long texts. Write one question about the text above, and its answer, \
such that
{rules}
- there is exactly one correct answer: a name, date, number or phrase of at most {words}, with few ways to write it.

Reply with one JSON object and nothing else, with these keys:
  "question": the question
  "answer": the answer in its best form
  "aliases": at most {aliases} other ways to write exactly this answer; the list may be empty
  "wrong": a wrong answer of the same kind that a careless reader might give
{evidence}
{if_impossible}"""
_SCHEMA = writing_brief.object_schema(
    question=writing_brief.TEXT,
    answer=writing_brief.TEXT,
    aliases=writing_brief.TEXTS,
    wrong=writing_brief.TEXT,
    evidence=writing_brief.TEXTS,
    explanation=writing_brief.TEXT,
)


def qa(draw: random.Random, options: WriteOptions) -> WritingBrief:
    kind = draw.choice(sorted(writing_brief.KINDS))

    def parse_reply(reply: dict[str, Any]) -> WrittenSample:
        question, max_words = writing_brief.read_question(reply), options.max_answer_words
        answer, wrong = (writing_brief.read_line(reply, key, max_words) for key in ("answer", "wrong"))
        aliases = [alias for alias in writing_brief.read_lines(reply, "aliases") if len(alias.split()) <= max_words]
        golds = list(dict.fromkeys([answer, *aliases[:MAX_ALIASES]]))
        sample = TaskSample(kind, question, ANSWER, golds, wrong, numbered=False)
        return WrittenSample(sample, writing_brief.read_lines(reply, "evidence"), str(reply["explanation"]).strip())

    instruction = _INSTRUCTION.format(
        rules=writing_brief.question_rules(kind, options.min_evidence),
        evidence=writing_brief.evidence_keys(options.min_evidence),
        words=prompts.plural(options.max_answer_words, "word"),
        aliases=MAX_ALIASES,
        if_impossible=writing_brief.IF_IMPOSSIBLE,
    )
    return WritingBrief(instruction, _SCHEMA, parse_reply)
