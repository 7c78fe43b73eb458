"""The demo world as training samples: one question about one document is one row of the project's schema."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from transformers import PreTrainedTokenizerFast
from verl_longrl.data.prompt import grounded_prompt
from verl_longrl.data.prompt_lengths import PromptCounter
from verl_longrl.data.schema import Message, Sample

from recipe.longrl.demo.grounded.world import Document, Question

INSTRUCTIONS = "cite and answer ."
"""All the format description a tiny model needs; the warm start teaches the rest."""


def messages(document: Document, asked: Question) -> list[Message]:
    """The prompt as a chat: chunks, question, instructions."""
    return grounded_prompt(document.chunks, asked.text, instructions=INSTRUCTIONS)


def frame() -> str:
    """The prompt's fixed wording, for the tokenizer's vocabulary."""
    return grounded_prompt(["."], "?", instructions=INSTRUCTIONS)[0]["content"]


def samples(tokenizer: PreTrainedTokenizerFast, documents: Iterable[Document], split: str) -> Iterator[Sample]:
    """One sample per question of `documents`, in order, with the length of its prompt."""
    counter = PromptCounter(tokenizer)
    asked = ((number, doc, ask) for number, doc in enumerate(documents) for ask in doc.questions)
    for index, (number, doc, ask) in enumerate(asked):
        prompt = messages(doc, ask)
        yield Sample(
            data_source="longrlvr",
            prompt=prompt,
            ground_truth=ask.answer,
            index=index,
            split=split,
            question=ask.text,
            task="longrlvr",
            ability="grounded_qa",
            ref_chunks=ask.ref_chunks,
            ref_chunks_text=[doc.chunks[chunk] for chunk in ask.ref_chunks],
            num_chunks=len(doc.chunks),
            payload={"document": f"{split}-{number}"},
            prompt_tokens=counter.count([prompt])[0],
            tokenizer_fingerprint=counter.fingerprint,
        )
