"""Instructions to the model that writes a sample, and the rules that its reply must keep to become one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from data_gen.llm_json import BrokenRule
from data_gen.llm_stage import SKIPPED
from data_gen.multitask.computed_tasks.task import TaskSample
from data_gen.multitask.prompts import plural

NO_QUESTION = "SKIPPED"
"""The writer puts this in place of a question where the text does not allow one."""
MAX_QUESTION_WORDS = 80
KINDS = {
    "combine": "the question combines facts from parts of the text that are far apart",
    "compare": "the question compares people, things or events described in parts of the text that are far apart",
    "trace": "the question follows how something changes, moves or is passed on over the course of the text",
    "infer": "the answer follows from several statements in the text, although no single one states it",
}
"""Kinds of questions, and the requirement that the writer reads for each."""
_RULES = """- {kind};
- answering it requires at least {evidence};
- the text alone determines the answer: it cannot be known from general knowledge, or guessed;
- someone who sees only the text and the question understands it: people, things and events are named in full, and it \
does not refer to excerpts, passages, sections or "the text above";"""
_EVIDENCE = """  "evidence": the sentences that determine the answer, at least {evidence}, each copied word for word \
from the text
  "explanation": how the answer follows from them, in at most 60 words"""
IF_IMPOSSIBLE = f"""If the text does not allow such a question, write "{NO_QUESTION}" as the question and say why in \
the explanation."""
_MENTION = re.compile(r"\b(?:excerpt|snippet|chunk)s?\b|\bpassages?\s*[\[(#]?\s*\d|\btext above\b", re.IGNORECASE)


class WrittenSample(NamedTuple):
    """A model's sample: question and answer in `sample`, the quotes in `evidence`, and its `explanation`."""

    sample: TaskSample
    evidence: list[str]
    explanation: str


class WritingBrief(NamedTuple):
    """instruction: the text below the document. schema: of the JSON to reply with. parse_reply: makes a sample of such
    JSON; raises BrokenRule."""

    instruction: str
    schema: dict[str, Any]
    parse_reply: Callable[[dict[str, Any]], WrittenSample]


def question_rules(kind: str, evidence: int) -> str:
    """The rules for a question of this kind that needs at least so many sentences of the text."""
    sentences = f"{plural(evidence, 'sentence')} of the text"
    if evidence > 1:
        sentences += ", from different parts; no single paragraph is enough"
    return _RULES.format(kind=KINDS[kind], evidence=sentences)


def evidence_keys(evidence: int) -> str:
    """The lines that describe the keys "evidence" and "explanation" of the reply."""
    return _EVIDENCE.format(evidence=evidence)


def object_schema(**properties: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema of an object with exactly these keys."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


TEXT: dict[str, Any] = {"type": "string"}
TEXTS: dict[str, Any] = {"type": "array", "items": {"type": "string"}}


def read_line(reply: dict[str, Any], key: str, max_words: int) -> str:
    """A text of the reply, on one line. Raises BrokenRule: empty, long_KEY."""
    text = " ".join(reply[key].split()) if isinstance(reply[key], str) else ""
    if not text:
        raise BrokenRule(f"empty: {key} {reply[key]!r}")
    if len(text.split()) > max_words:
        raise BrokenRule(f"long_{key}: {len(text.split())} words > {max_words}")
    return text


def read_lines(reply: dict[str, Any], key: str) -> list[str]:
    """The texts of a list in the reply, each on one line, without empty ones. Raises BrokenRule: empty."""
    if not isinstance(reply[key], list) or not all(isinstance(text, str) for text in reply[key]):
        raise BrokenRule(f"empty: {key} {reply[key]!r}; expected a list of texts")
    return [text for text in (" ".join(text.split()) for text in reply[key]) if text]


def read_question(reply: dict[str, Any]) -> str:
    """The question of the reply. Raises BrokenRule: skipped, mentions_excerpts, and those of `read_line`."""
    text = read_line(reply, "question", MAX_QUESTION_WORDS)
    if text == NO_QUESTION:
        raise BrokenRule(f"{SKIPPED}: {reply['explanation']}")
    if mention := _MENTION.search(text):
        raise BrokenRule(f"mentions_excerpts: {mention[0]!r} in {text!r}")
    return text
