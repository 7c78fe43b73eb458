"""What a model is asked to write, and the rules that its reply must keep to become a sample."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from data_gen.llm_json import BrokenRule
from data_gen.llm_stage import SKIPPED
from data_gen.multitask.computed_tasks.task import Made

NO_QUESTION = "SKIPPED"
"""Written in place of a question where the text allows none."""
MAX_QUESTION_WORDS = 80
KINDS = {
    "combine": "it brings together facts that the text gives in places far from one another",
    "compare": "it compares persons, things or events that the text describes in places far from one another",
    "trace": "it follows how something changes, moves or is passed on in the course of the text",
    "infer": "its answer follows from several statements of the text, though no single one states it",
}
"""Kinds of questions, and what is said of each."""
RULES = """- {kind};
- its answer takes at least {evidence} sentences from different parts of the text; no single paragraph is enough;
- the text alone settles the answer: general knowledge does not give it, nor a guess;
- someone who sees nothing but the text and the question understands it: persons, things and events are named in full, \
and it does not speak of excerpts, passages, sections or "the text above";"""
EVIDENCE = """  "evidence": the sentences that settle the answer, at least {evidence}, each word for word as in the text
  "explanation": how the answer follows from them, in at most 60 words"""
OR_NOT = f"""If the text does not allow such a question, write "{NO_QUESTION}" as the question and say why in the \
explanation."""
_MENTION = re.compile(r"\b(?:excerpt|snippet|chunk)s?\b|\bpassages?\s*[\[(#]?\s*\d|\btext above\b", re.IGNORECASE)


class Written(NamedTuple):
    """A sample that a model wrote: what is asked and its answer, `evidence` (quotes), and its `explanation`."""

    made: Made
    evidence: list[str]
    explanation: str


class Brief(NamedTuple):
    """instruction: what stands below the text. schema: of the JSON to write. read: makes a sample of that; raises
    BrokenRule."""

    instruction: str
    schema: dict[str, Any]
    read: Callable[[dict[str, Any]], Written]


def schema(**properties: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema of an object with just these keys."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


TEXT: dict[str, Any] = {"type": "string"}
TEXTS: dict[str, Any] = {"type": "array", "items": {"type": "string"}}


def one_line(found: dict[str, Any], key: str, most_words: int) -> str:
    """A text of the reply, on one line. Raises BrokenRule: empty, long_KEY."""
    text = " ".join(found[key].split()) if isinstance(found[key], str) else ""
    if not text:
        raise BrokenRule(f"empty: {key} {found[key]!r}")
    if len(text.split()) > most_words:
        raise BrokenRule(f"long_{key}: {len(text.split())} words > {most_words}")
    return text


def lines(found: dict[str, Any], key: str) -> list[str]:
    """The texts of a list in the reply, each on one line, without empty ones. Raises BrokenRule: empty."""
    if not isinstance(found[key], list) or not all(isinstance(text, str) for text in found[key]):
        raise BrokenRule(f"empty: {key} {found[key]!r} is no list of texts")
    return [text for text in (" ".join(text.split()) for text in found[key]) if text]


def question(found: dict[str, Any], key: str = "question") -> str:
    """The question of the reply. Raises BrokenRule: skipped, mentions_excerpts, and those of `one_line`."""
    text = one_line(found, key, MAX_QUESTION_WORDS)
    if text == NO_QUESTION:
        raise BrokenRule(f"{SKIPPED}: {found['explanation']}")
    if mention := _MENTION.search(text):
        raise BrokenRule(f"mentions_excerpts: {mention[0]!r} in {text!r}")
    return text
