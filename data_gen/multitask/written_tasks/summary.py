"""Task golongrl_summary (ROUGE-L), written by a model: reference summaries of a given length, of the whole text or of
what it says about one subject."""

from __future__ import annotations

import random
from typing import Any

from data_gen.llm_json import BrokenRule
from data_gen.multitask import prompts
from data_gen.multitask.computed_tasks.task import TaskSample
from data_gen.multitask.written_tasks import writing_brief
from data_gen.multitask.written_tasks.options import WriteOptions
from data_gen.multitask.written_tasks.writing_brief import WritingBrief, WrittenSample

LENGTHS = (100, 150, 200, 300)
"""Words of a summary; the question allows a quarter more or less."""
MAX_FOCUS_WORDS = 20
_WHOLE = "covers the whole text: what it is about, and its main points from beginning to end"
_FOCUSED = (
    "covers what the text says about a single subject that it returns to in several places, but that is not the "
    "main subject of the whole text: a person, an event, a method or a question"
)
_INDEPENDENT = (
    " All of them make the same points, but they are written independently of one another, each in its own words."
)
_INSTRUCTION = """You write reference summaries. Write {number} of the text above. {each} {content}.{independent} {each}
- is a single paragraph of about {words} words, with at least {low} and at most {high};
- says nothing that the text does not say, and leaves out unimportant details;
- can be understood without the text, and avoids phrases such as "the text" or "the author".

Reply with one JSON object of this form and nothing else:
{focus}  "summaries": the list of summaries"""
_FOCUS = (
    '  "focus": the subject, named in at most 15 words so that it completes the sentence "Summarise what the text says '
    'about ..."\n'
)


def summary(draw: random.Random, options: WriteOptions) -> WritingBrief:
    focused, length = draw.random() < options.focused_share, draw.choice(LENGTHS)
    low, high = length * 3 // 4, length * 5 // 4
    seed = draw.random()

    def parse_reply(reply: dict[str, Any]) -> WrittenSample:
        texts = list(dict.fromkeys(writing_brief.read_lines(reply, "summaries")))
        if len(texts) < options.references:
            raise BrokenRule(f"few_summaries: {len(texts)} different ones < {options.references}")
        if wrong := next((len(text.split()) for text in texts if not low <= len(text.split()) <= high), None):
            raise BrokenRule(f"wrong_length: {wrong} words, expected {low} to {high}")
        focus = writing_brief.read_line(reply, "focus", MAX_FOCUS_WORDS).rstrip(".") if focused else ""
        subject = f"what the text says about {focus}" if focused else "the text"
        question = f"Summarise {subject} in {low} to {high} words."
        # The neighbour has the words of a reference in random order: ROUGE-L must tell it from the reference.
        tokens = texts[0].split()
        shuffled = " ".join(random.Random(seed).sample(tokens, len(tokens)))
        kind = "focused" if focused else "whole"
        sample = TaskSample(kind, question, prompts.SUMMARY, texts, shuffled, numbered=False)
        return WrittenSample(sample, [], "")

    one = options.references == 1
    instruction = _INSTRUCTION.format(
        number="1 summary" if one else f"{options.references} summaries",
        each="The summary" if one else "Each summary",
        content=_FOCUSED if focused else _WHOLE,
        independent="" if one else _INDEPENDENT,
        words=length,
        low=low,
        high=high,
        focus=_FOCUS if focused else "",
    )
    keys = {"focus": writing_brief.TEXT} if focused else {}
    schema = writing_brief.object_schema(**keys, summaries=writing_brief.TEXTS)
    return WritingBrief(instruction, schema, parse_reply)
