"""All samples of a document: those computed by code (stage compose) and those written by a model (stage verify).

Both kinds have the same fields: `task`, `kind`, `question`, `answer_as` (the prompt's instruction how to answer),
`gold`, `numbered` (whether the passages are shown with their numbers), `window` (the passages shown, from 0, end
excluded), `prompt_tokens`. `samples_of` adds the `id`.
"""

from __future__ import annotations

from verl_longrl.data.schema import Message

from data_gen.multitask import prompts
from data_gen.multitask.compose import TaskComposeOptions, passages_of
from data_gen.store import Document, Row

SAMPLE_STAGES = ("compose", "verify")
"""The stages whose rows have samples, in the order of `samples_of`. A skipped stage has no row in a document (see
Store.documents)."""


def samples_of(document: Document) -> list[Row]:
    """The samples of a document, always in the same order, each with an `id` such as DOCUMENT/compose-0."""
    samples = []
    for stage in SAMPLE_STAGES:
        if stage in document:
            name = document[stage]["id"]
            samples += [
                {"id": f"{name}/{stage}-{number}", **sample} for number, sample in enumerate(document[stage]["samples"])
            ]
    return samples


def passages_shown(document: Document, sample: Row, options: TaskComposeOptions) -> list[str]:
    """The passages that a sample of the document shows; `document` must have the row of stage ingest."""
    start, end = sample["window"]
    return passages_of(document["ingest"]["text"], options)[start:end]


def prompt_of(document: Document, sample: Row, options: TaskComposeOptions) -> list[Message]:
    """The prompt of a sample of the document; `document` must have the row of stage ingest."""
    shown = passages_shown(document, sample, options)
    return prompts.question_messages(shown, sample["question"], sample["answer_as"], sample["numbered"])
