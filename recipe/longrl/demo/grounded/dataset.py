"""The grounded world as training samples: one question about one document is one row of the project's schema."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from verl_longrl.data.prompt import grounded_prompt
from verl_longrl.data.schema import Message, Sample

from recipe.longrl.demo.grounded.world import GroundedDocument, Question

INSTRUCTIONS = "cite and answer ."
"""The prompt's description of the response format; the warm start teaches what it means."""


def prompt(document: GroundedDocument, question: Question) -> list[Message]:
    """The prompt as a chat: chunks, question, instructions."""
    return grounded_prompt(document.chunks, question.text, instructions=INSTRUCTIONS)


def fixed_wording() -> str:
    """The words that all prompts have, for the tokenizer's vocabulary."""
    return grounded_prompt(["."], "?", instructions=INSTRUCTIONS)[0]["content"]


def samples(documents: Iterable[GroundedDocument], split: str) -> Iterator[Sample]:
    """One sample per question of `documents`, in order."""
    pairs = (
        (number, document, question) for number, document in enumerate(documents) for question in document.questions
    )
    for index, (number, document, question) in enumerate(pairs):
        yield Sample(
            data_source="longrlvr",
            prompt=prompt(document, question),
            ground_truth=question.answer,
            index=index,
            split=split,
            question=question.text,
            task="longrlvr",
            ability="grounded_qa",
            ref_chunks=question.ref_chunks,
            ref_chunks_text=[document.chunks[chunk] for chunk in question.ref_chunks],
            num_chunks=len(document.chunks),
            payload={"document": f"{split}-{number}"},
        )
