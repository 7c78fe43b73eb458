"""Records that benchmarks, rules and runs exchange: a row, the outcome of a rule, a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Row:
    """One question of a benchmark, ready to be sent."""

    id: str
    """Unique in its benchmark and options."""
    messages: tuple[dict[str, str], ...]
    """Each one has a role and a content."""
    gold: Any
    """A JSON value, which the rules compare with."""
    max_tokens: int
    """Tokens of the longest answer."""
    answer_prefix: str = ""
    """RULER's beginning of the answer, appended to the last user message or continued by the model."""
    cell: str = ""
    """The cell of the table that the row belongs to, such as "niah_single_1/4096"."""
    length: int | None = None
    """Length class in tokens, for length curves."""
    cluster: str = ""
    """Document, article or question: rows of one cluster are not independent."""
    position: float | None = None
    """Depth of the evidence in the context, from 0 to 1, for heat maps."""
    evidence: tuple[int, ...] = ()
    """Ids of the gold chunks where the prompt has <CHUNK_i> tags."""
    meta: dict[str, Any] = field(default_factory=dict)


class Outcome(NamedTuple):
    """The result of one rule for one response."""

    score: float
    """From 0 to 1."""
    parsed: str = ""
    """The answer as it was read."""
    parts: dict[str, float] = {}  # noqa: RUF012  never changed


Rule = Callable[[str, Row], Outcome]
"""(text that the model generated, row) -> Outcome. Pure; never raises for any text."""


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: its rows, and the rules by name, of which the first is the headline."""

    name: str
    rows: Callable[..., Iterator[Row]]
    """Takes keyword options: tokenizer=, lengths=, samples=, tasks=, seed=, path= and others."""
    rules: dict[str, Rule]
    summary: str
    judged: bool = False
