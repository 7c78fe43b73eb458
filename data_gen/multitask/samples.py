"""All samples of a document, whoever made them: computed by code (stage compose), or written by a model and verified
(stage verify). A sample has the same form either way:

`task`, `kind`, `question`, `answer_as` (how the prompt says to answer), `gold`, `numbered` (whether the passages are
shown with their numbers), `window` (the passages shown, from 0, end excluded), `prompt_tokens`; here it gets its `id`.
"""

from __future__ import annotations

from verl_longrl.data.schema import Message

from data_gen.multitask import prompts
from data_gen.multitask.compose import ComposeOptions, passages_of
from data_gen.store import Document, Row

MAKERS = ("compose", "verify")
"""The stages whose rows have samples, in the order in which they are counted here. A stage that was not wanted has no
rows, and a document then no entry of it (see Store.documents)."""


def samples_of(document: Document) -> list[Row]:
    """The samples of a document, in an order that stays the same, each with an `id` such as DOCUMENT/compose-0."""
    return [
        {"id": f"{document[stage]['id']}/{stage}-{number}", **sample}
        for stage in MAKERS
        if stage in document
        for number, sample in enumerate(document[stage]["samples"])
    ]


def passages_shown(document: Document, sample: Row, options: ComposeOptions) -> list[str]:
    """The passages that one of a document's samples shows; `document` has the row of stage ingest too."""
    start, end = sample["window"]
    return passages_of(document["ingest"]["text"], options)[start:end]


def prompt_of(document: Document, sample: Row, options: ComposeOptions) -> list[Message]:
    """The prompt of one of a document's samples; `document` has the row of stage ingest too."""
    shown = passages_shown(document, sample, options)
    return prompts.question_messages(shown, sample["question"], sample["answer_as"], sample["numbered"])
