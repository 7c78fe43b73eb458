"""The records that benchmarks, rules and the harness exchange."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

NO_DOCUMENT = "The text is not available here. Answer from what you know."
"""Stands in closed-book prompts where the documents are in the others; nothing else differs."""


@dataclass(frozen=True)
class Row:
    """One question of a benchmark, ready to be sent."""

    id: str
    """Unique in its benchmark and options."""
    messages: tuple[dict[str, str], ...]
    """Each has "role" and "content"."""
    gold: Any
    """The JSON value that rules compare with."""
    max_tokens: int
    """Tokens of the longest answer."""
    answer_prefix: str = ""
    """The beginning of the answer, appended to the last user message or continued (RULER)."""
    cell: str = ""
    """The cell of the table that the row belongs to: "niah_single_1/4096"."""
    length: int | None = None
    """Length class in tokens, for length curves."""
    cluster: str = ""
    """Document, article or question: the rows of one cluster are not independent. "": the row is its own cluster."""
    position: float | None = None
    """Depth of the evidence in the context, from 0 to 1, for heat maps."""
    closed_book: tuple[dict[str, str], ...] = ()
    """The messages with `NO_DOCUMENT` in place of the documents; () if there is no question without them."""
    evidence: tuple[int, ...] = ()
    """Gold chunk ids, if the prompt has <CHUNK_i> tags."""
    meta: dict[str, Any] = field(default_factory=dict)


class Outcome(NamedTuple):
    """The verdict of a rule on one answer."""

    score: float
    """From 0 to 1."""
    parsed: str = ""
    """The answer as it was read."""
    parts: dict[str, float] = {}  # noqa: RUF012


Rule = Callable[[str, Row], Outcome]
"""(text that the model generated, row) -> outcome. Pure; never raises, whatever the text is."""


@dataclass(frozen=True)
class Benchmark:
    """A set of questions with the rules that score them."""

    name: str
    rows: Callable[..., Iterator[Row]]
    """Keyword options: tokenizer, lengths, samples, tasks, seed, path, ..."""
    rules: dict[str, Rule]
    """By name: "published", "strict", ...; the first one is the headline."""
    summary: str
    judged: bool = False


@dataclass(frozen=True)
class Reply:
    """A completion, as a server sent it."""

    text: str
    """The content. Rules see this text unchanged, including any </think> tags that the server left in it."""
    finish_reason: str
    reasoning: str = ""
    """The thinking that the server kept apart (`reasoning_content`, or `reasoning`). No rule sees it."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    """As the server counted them; None if it did not say."""
