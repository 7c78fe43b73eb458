"""Task golongrl_summary (ROUGE-L), written: several reference summaries of wanted length, of the whole text or of what
it says about one thing."""

from __future__ import annotations

import random
from typing import Any

from data_gen.llm_json import BrokenRule
from data_gen.multitask import prompts
from data_gen.multitask.computed_tasks.task import Made
from data_gen.multitask.written_tasks import writing_brief
from data_gen.multitask.written_tasks.options import WriteOptions
from data_gen.multitask.written_tasks.writing_brief import Brief, Written

LENGTHS = (100, 150, 200, 300)
"""Words of a summary; the question allows a quarter more or less."""
MAX_FOCUS_WORDS = 20
_WHOLE = "summarises all of it: what it is about, and its main points from the beginning to the end"
_FOCUSED = (
    "summarises what it says about one and the same thing, which it returns to in several places but is not all about: "
    "a person, an event, a method, a question"
)
_INSTRUCTION = """You write reference summaries. Write {number} of them for the text above. Each {what}. They make the \
same points, but they are written independently of one another, in words and sentences of their own. Each
- is one paragraph of about {words} words, {low} at least and {high} at most;
- says nothing that the text does not say, and leaves out what is of no weight;
- can be understood without the text, and does not speak of "the text" or "the author" where it can do without.

Reply with one JSON object and nothing else, with these keys:
{focus}  "summaries": the {number} summaries"""
_FOCUS = '  "focus": the thing, named in at most 15 words so that it fits "Summarise what the text says about ..."\n'


def summary(draw: random.Random, options: WriteOptions) -> Brief:
    focused, length = draw.random() < options.focused_share, draw.choice(LENGTHS)
    low, high = length * 3 // 4, length * 5 // 4
    seed = draw.random()

    def read(found: dict[str, Any]) -> Written:
        texts = list(dict.fromkeys(writing_brief.lines(found, "summaries")))
        if len(texts) < options.references:
            raise BrokenRule(f"few_summaries: {len(texts)} different ones < {options.references}")
        if wrong := next((len(text.split()) for text in texts if not low <= len(text.split()) <= high), None):
            raise BrokenRule(f"wrong_length: {wrong} words, expected {low} to {high}")
        focus = writing_brief.one_line(found, "focus", MAX_FOCUS_WORDS).rstrip(".") if focused else ""
        what = f"what the text says about {focus}" if focused else "the text"
        question = f"Summarise {what} in {low} to {high} words."
        spoken = texts[0].split()
        shuffled = " ".join(random.Random(seed).sample(spoken, len(spoken)))
        made = Made("focused" if focused else "whole", question, prompts.SUMMARY, texts, shuffled, numbered=False)
        return Written(made, [], "")

    instruction = _INSTRUCTION.format(
        number=options.references,
        what=_FOCUSED if focused else _WHOLE,
        words=length,
        low=low,
        high=high,
        focus=_FOCUS if focused else "",
    )
    keys = {"focus": writing_brief.TEXT} if focused else {}
    return Brief(instruction, writing_brief.schema(**keys, summaries=writing_brief.TEXTS), read)
