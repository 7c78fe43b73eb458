"""`Draft` and `Page`: a question that has been drawn at random, and its prompt as pieces whose tokens can be added up.

Drawing and rendering are separate because the released generator draws a whole prompt for every size that it tries.
The random numbers must be drawn to arrive at the same prompts; the text need not be written.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple


class Page(NamedTuple):
    """A prompt without its answer prefix. Its text is `before` + the pieces."""

    pieces: list[str]
    position: float | None = None
    """Depth of the gold information, from 0 to 1; the mean if there are several places."""
    meta: dict[str, Any] = {}  # noqa: RUF012  never changed
    before: str = ""
    """A solved example that vt shows first, counted apart because the released generator does so."""
    before_tokens: int = 0

    @property
    def text(self) -> str:
        return self.before + "".join(self.pieces)


@dataclass(frozen=True)
class Draft:
    """A question with all its random choices made."""

    gold: list[str]
    answer_prefix: str
    render: Callable[[], Page]
    probe: str = ""
    """Text that the released generator appends while it searches for the size: the answers, in some form."""
    cluster: str = ""
    selection: Any = None
    """The documents of qa_1 and qa_2, for benchmarks that show them in another form."""


class Sampler(ABC):
    """A source of drafts of any size; size counts words, lines or documents, by task."""

    step: int
    """The released generator changes the size by this many."""
    shrinks = True
    """Whether a sample that does not fit is drawn again with a smaller size; otherwise with the same one."""

    @abstractmethod
    def draw(self, size: int, index: int) -> Draft:
        """A draft for sample `index`; while the size is searched, for sample 0."""

    def accept(self, page: Page) -> Page:
        """The page as it is asked, once it is known to fit."""
        return page


def pieces_of(head: str, elements: Iterable[str], joiner: str, tail: str) -> list[str]:
    """head + joiner.join(elements) + tail as pieces that begin with their spaces, the tail within the last one.

    No tokenizer in use has tokens that span a single space, so the tokens of such pieces add up. Elements may be empty
    or end with spaces; these are moved to the next piece.
    """
    pieces, pending = [], head
    for number, element in enumerate(elements):
        text = pending + (joiner if number else "") + element
        piece = text.rstrip(" ")
        if piece:
            pieces.append(piece)
        pending = text[len(piece) :]
    last = pieces.pop() if pieces else ""
    return [*pieces, last + pending + tail]
