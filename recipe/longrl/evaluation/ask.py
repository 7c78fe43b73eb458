"""Ask a trained model about a document, exactly as it was trained to be asked, and read what it cites.

    from recipe.longrl.evaluation.ask import ask_document, open_reader

    with open_reader("outputs/run") as model:                  # vLLM is started, and ends with the block
        reading = ask_document(model, text, "Who owns the mill?")
    print(reading.answer, reading.cited, [reading.chunks[i] for i in reading.cited])

The document is normalised, broken up and split by the code that makes training data (`data_gen.grounding`), and shown
with the training prompt. The response is read as the reward reads it. Responses of LongRLVR's released models are read
too: their page shows `<useful chunks>` and `<CHUNK 0>` where the training code has underscores, and the 7B model often
closes `</think>` after its answer.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verl_longrl.data.prompt import INSTRUCTIONS, grounded_prompt, neutralise_tags
from verl_longrl.rewards.matching.response_format import (
    THINK_CLOSE,
    GroundedResponse,
    cited_chunks,
    parse_grounded,
)

from recipe.longrl.evaluation.errors import EvaluationError
from recipe.longrl.evaluation.rules.reading import last_answer_block, last_citation_block

if TYPE_CHECKING:
    from recipe.longrl.evaluation.models import Model

CHUNK_TOKENS = 512
"""As `chunk.max_tokens` of data_gen.grounding."""
MAX_TOKENS = 4096
_RELEASED_TAG = re.compile(r"<\s?(/?)\s?useful[ _]chunks\s?>", re.IGNORECASE)
_RELEASED_CHUNK = re.compile(r"<\s?CHUNK[ _](\d{1,19})\s?/?>", re.IGNORECASE)


@dataclass(frozen=True)
class Reading:
    """A model's answer about a document, with the chunks that it cites as evidence."""

    answer: str
    cited: tuple[int, ...]
    """Cited chunks of the document, each once, in the order of the citation."""
    outside: tuple[int, ...]
    """Cited numbers that no chunk of the document has."""
    chunks: tuple[str, ...]
    reasoning: str
    error: str
    """The reason why the response has no answer to read; empty when it has one."""
    response: str
    prompt_tokens: int


@contextmanager
def open_reader(
    model: str,
    server: Sequence[str] = (),
    *,
    tokenizer: str = "",
    window: int | None = None,
    folder: Path | None = None,
) -> Iterator[Model]:
    """A model that can be asked: a run's folder or a Hugging Face folder that vLLM serves, or the one of a server.

    tokenizer: folder or hub name, if it is not that of `model`. folder: for the server's log; default: a temporary one.
    Raises ModelError.
    """
    from recipe.longrl.evaluation.models import ModelOptions, open_model

    options = ModelOptions(model=model, server=tuple(server), tokenizer=tokenizer, window=window)
    with (
        tempfile.TemporaryDirectory(prefix="longrl-ask-") as temporary,
        open_model(options, folder or Path(temporary), seed=0) as opened,
    ):
        yield opened


def ask_document(
    model: Model,
    text: str,
    question: str,
    *,
    chunk_tokens: int = CHUNK_TOKENS,
    instructions: str = INSTRUCTIONS,
    max_tokens: int = MAX_TOKENS,
    temperature: float = 0.0,
) -> Reading:
    """Ask `question` about `text`. Not within a running event loop.

    chunk_tokens, instructions: as the model's training data has them.

    Raises:
        EvaluationError: the document or the question is empty, the prompt does not fit the model's window, or the model
            does not answer.
    """
    from recipe.longrl.evaluation.plan import ChatCounter

    if not question.strip():
        raise EvaluationError("question: has no text. Fix: ask something")
    chunks = split_document(model.tokenizer, text, chunk_tokens)
    messages = grounded_prompt(chunks, neutralise_tags(question.strip()), instructions)
    template = model.record.get("template") or {}
    prompt_tokens = ChatCounter(model.tokenizer, template).count(messages)
    if prompt_tokens + max_tokens > model.window:
        raise EvaluationError(
            f"document: {prompt_tokens:,} tokens of prompt and {max_tokens:,} of answer exceed the model's window of "
            f"{model.window:,}. Fix: a shorter document, fewer answer tokens, or a longer --window"
        )
    body = {"model": model.name, "messages": messages, "max_tokens": max_tokens, "temperature": temperature}
    if template:
        body["chat_template_kwargs"] = template
    outcome = asyncio.run(_ask(model, body, prompt_tokens + max_tokens))
    if outcome["state"] == "failed":
        raise EvaluationError(f"{', '.join(model.urls)}: {outcome['error']}. Fix: see the server's log")
    response = f"{outcome['reasoning']}{THINK_CLOSE}{outcome['text']}" if outcome["reasoning"] else outcome["text"]
    return read_response(response, chunks, prompt_tokens)


def split_document(tokenizer: Any, text: str, chunk_tokens: int = CHUNK_TOKENS) -> list[str]:
    """The chunks of a document, as stages ingest and chunk of data_gen.grounding make them.

    tokenizer: a transformers fast tokenizer. Raises EvaluationError for an empty document.
    """
    from data_gen.grounding.ingest import normalise
    from data_gen.grounding.splitter import Splitter
    from data_gen.special_tokens import SpecialTokens

    document = SpecialTokens(tokenizer).break_up(normalise(text))
    spans = Splitter(tokenizer.backend_tokenizer, chunk_tokens).split(document)
    chunks = [document[span.start : span.end] for span in spans]
    if not chunks:
        raise EvaluationError("document: has no text. Fix: another document")
    return chunks


def read_response(response: str, chunks: Sequence[str], prompt_tokens: int = 0) -> Reading:
    """Read a response in the training format or in that of LongRLVR's released models."""
    parsed = parse_grounded(response)
    if parsed.error:
        parsed = _read_released(response) or parsed
    cited = tuple(dict.fromkeys(parsed.cited))
    return Reading(
        parsed.answer,
        tuple(i for i in cited if i < len(chunks)),
        tuple(i for i in cited if i >= len(chunks)),
        tuple(chunks),
        response.rpartition(THINK_CLOSE)[0].removeprefix("<think>").strip(),
        parsed.error,
        response,
        prompt_tokens,
    )


def _read_released(response: str) -> GroundedResponse | None:
    """The response with the tags of the released models' page rewritten to those of their training.

    If it still breaks the contract, its last closed blocks, wherever they are; None without an answer.
    """
    rewritten = _RELEASED_CHUNK.sub(r"<CHUNK_\1>", _RELEASED_TAG.sub(r"<\1useful_chunks>", response))
    parsed = parse_grounded(rewritten)
    if not parsed.error:
        return parsed
    answer = (last_answer_block(rewritten) or "").strip()
    return GroundedResponse(cited_chunks(last_citation_block(rewritten) or ""), answer) if answer else None


def read_document(path: str) -> str:
    """The text of a file: plain text, Markdown, HTML or PDF. Raises EvaluationError."""
    from data_gen.document_readers import CorpusError, find_sources

    if not Path(path).is_file():
        raise EvaluationError(f"document = {path}: no such file. Fix: name one file of text, Markdown, HTML or PDF")
    (source,) = find_sources([path])[0]
    documents = list(islice(source.documents(), 2))
    if len(documents) != 1:
        found = "several documents" if documents else "no document"
        raise EvaluationError(f"document = {path}: {found} in it. Fix: name a file with one document")
    (document,) = documents
    if isinstance(document, CorpusError):
        raise EvaluationError(f"document: {document}")
    if not document.text.strip():
        raise EvaluationError(f"document = {path}: has no text. Fix: another file; of a scanned PDF, one with text")
    return document.text


def show_reading(reading: Reading) -> None:
    """Print the answer and the cited chunks on the terminal."""
    from rich.console import Console
    from rich.panel import Panel
    from rich.text import Text

    console = Console()
    console.print(Panel(Text(reading.answer or reading.response), title="answer" if not reading.error else "response"))
    for number in reading.cited:
        console.print(Panel(Text(reading.chunks[number]), title=f"chunk {number} of {len(reading.chunks)}"))
    if reading.outside:
        console.print(f"cited, but not in the document: {', '.join(map(str, reading.outside))}")
    if reading.error:
        console.print(f"the response cannot be read: {reading.error}")
    elif not reading.cited:
        console.print("no chunk of the document is cited")


async def _ask(model: Model, body: Mapping[str, Any], tokens: int) -> dict[str, Any]:
    from recipe.longrl.evaluation.client import Client, ClientOptions, Request

    outcomes: list[dict[str, Any]] = []
    client = Client(model.urls, model.name, model.api_key_env, model.window, ClientOptions(concurrency=1))
    try:
        await client.ask_all([Request("ask", "document", tokens, lambda: body)], outcomes.append)
    finally:
        await client.close()
    return outcomes[0]
