"""First pass over the sources: which of their rows can be trained on, and why the others cannot.

Every row is imported, compared with all rows before it (by prompt, over all sources) and with the benchmarks (by what
it asks, and by the long text that it shows), and counted in tokens; of a usable one only its place, the digest of its
prompt and its length are kept, a few hundred bytes. So a choice among the usable rows gives exactly as many as are
asked for, however long they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from verl_longrl.data.progress import Advance
from verl_longrl.data.prompt_lengths import BATCH, PromptCounter
from verl_longrl.data.schema import Sample

from data_gen.decontaminate import Benchmarks
from data_gen.document_readers import CorpusError
from data_gen.importers.fields import Unusable
from data_gen.importers.layouts import ImportedRow, Layout, file_layout, read_rows
from data_gen.mix.config import SourceOptions
from data_gen.text import digest

EDGE = 1000
"""Characters at either end of a prompt that may say what to do, in words that many prompts share."""


class Usable(NamedTuple):
    """A row that can be chosen. `key`: its prompt's digest."""

    file: Path
    number: int
    key: bytes
    tokens: int


@dataclass
class Survey:
    """What is in one source. `layouts`: of its files; `dropped`, `first`: reason -> rows, and the first of them."""

    source: SourceOptions
    layouts: dict[Path, Layout]
    rows: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    usable: list[Usable] = field(default_factory=list)

    def drop(self, row: ImportedRow, reason: str, detail: str) -> None:
        self.dropped[reason] += 1
        self.first.setdefault(reason, f"{row.where}: {detail}")


class Surveyor:
    """Looks through sources one after another; a prompt counts for the first that has it.

    Args:
        counter: counts the prompts whose stored length is another tokenizer's.
        spell: how the text of imported rows is written (see imports/layouts.py).
        max_tokens: length limit of a prompt; None for none.
    """

    def __init__(
        self, counter: PromptCounter, spell: Callable[[str], str], benchmarks: Benchmarks, max_tokens: int | None
    ):
        self.counter, self.spell, self.benchmarks, self.max_tokens = counter, spell, benchmarks, max_tokens
        self._seen: dict[bytes, str] = {}

    def look(self, source: SourceOptions, advance: Advance) -> Survey:
        """Everything about one source. Raises CorpusError for a file that cannot be read, or holds nothing usable."""
        survey = Survey(source, {path: file_layout(path, source.layout) for path in source.paths()})
        for path, layout in survey.layouts.items():
            rows = self._new(survey, read_rows(path, layout, self.spell), advance)
            while batch := list(islice(rows, BATCH)):
                for (row, key), tokens in zip(batch, self._lengths(batch), strict=True):
                    if self.max_tokens is not None and tokens > self.max_tokens:
                        survey.drop(row, "too_long", f"{tokens} tokens > {self.max_tokens}")
                    else:
                        survey.usable.append(Usable(path, row.number, key, tokens))
        return survey

    def _new(
        self, survey: Survey, rows: Iterator[ImportedRow], advance: Advance
    ) -> Iterator[tuple[ImportedRow, bytes]]:
        """The rows that are samples, unlike any before and in no benchmark."""
        for row in rows:
            survey.rows += 1
            advance()
            if isinstance(row.result, Unusable):
                survey.drop(row, row.result.reason, str(row.result))
                continue
            key = prompt_key(row.result)
            if key in self._seen:
                survey.drop(row, "duplicate", f"the same prompt as {self._seen[key]}")
                continue
            self._seen[key] = row.where
            texts = (*asked(row.result), *shown(row.result))
            if copied := next(filter(None, map(self.benchmarks.overlap, texts)), ""):
                survey.drop(row, "contaminated", repr(copied))
                continue
            yield row, key

    def _lengths(self, batch: list[tuple[ImportedRow, bytes]]) -> list[int]:
        """Prompt tokens of a batch, counted where this tokenizer did not do so before."""
        from jinja2 import TemplateError

        samples = [row.result for row, _ in batch if isinstance(row.result, Sample)]
        known = [s.tokenizer_fingerprint == self.counter.fingerprint and s.prompt_tokens for s in samples]
        try:
            new = iter(self.counter.count([s.prompt for s, tokens in zip(samples, known, strict=True) if not tokens]))
        except TemplateError as error:
            raise CorpusError(
                f"{batch[0][0].where} to {batch[-1][0].where}: the chat template refuses a prompt: {error}; give the "
                "roles in the order the template asks for"
            ) from error
        return [tokens or next(new) for tokens in known]


def prompt_key(sample: Sample) -> bytes:
    """Equal for equal prompts."""
    return digest(*(message[part] for message in sample.prompt for part in ("role", "content")))


def asked(sample: Sample) -> list[str]:
    """What a sample asks: its question, alone and with each answer; the whole prompt where the question is unknown."""
    if not sample.question:
        return [message["content"] for message in sample.prompt]
    truth = sample.ground_truth
    answers = [truth] if isinstance(truth, str) else truth if isinstance(truth, list) else []
    return [sample.question, *(f"{sample.question} {answer}" for answer in answers)]


def shown(sample: Sample) -> list[str]:
    """The long text of each turn of a prompt, without its edges; "" of a short turn."""
    return [message["content"][EDGE:-EDGE] for message in sample.prompt]
