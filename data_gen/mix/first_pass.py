"""First pass over the sources of a mix: find the usable rows, and count the reasons why others are dropped.

Every row is imported, compared with all rows before it (by prompt, over all sources) and with the benchmarks (its
question, and the long text that it shows), and counted in tokens. Of a usable row only its place, the digest of its
prompt and its length are kept, a few hundred bytes. So the mix can be chosen among the usable rows, to the exact
number, before any text is loaded a second time.
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
"""Characters at either end of a prompt that are not compared: they may be instructions, which many prompts share."""


class Usable(NamedTuple):
    """A row that can be chosen. `number`: of the row in its file, from 0; `key`: the digest of its prompt."""

    file: Path
    number: int
    key: bytes
    tokens: int


@dataclass
class Survey:
    """The content of one source. `layouts`: those of its files; `dropped`: reason -> number of rows; `first`: reason ->
    the first such row."""

    source: SourceOptions
    layouts: dict[Path, Layout]
    rows: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    usable: list[Usable] = field(default_factory=list)

    def drop(self, row: ImportedRow, reason: str, detail: str) -> None:
        """Count a dropped row."""
        self.dropped[reason] += 1
        self.first.setdefault(reason, f"{row.where}: {detail}")


class Surveyor:
    """Surveys sources one after another; a prompt counts for the first source that has it.

    Args:
        counter: counts the prompts whose stored length is not of this tokenizer.
        clean: applied to every text of imported rows (see importers/layouts.py).
        max_tokens: longest prompt; None for no limit.
    """

    def __init__(
        self, counter: PromptCounter, clean: Callable[[str], str], benchmarks: Benchmarks, max_tokens: int | None
    ):
        self.counter, self.clean, self.benchmarks, self.max_tokens = counter, clean, benchmarks, max_tokens
        # Digest of a prompt -> the name of the first row that has it.
        self._seen: dict[bytes, str] = {}

    def survey(self, source: SourceOptions, advance: Advance) -> Survey:
        """The survey of one source. Raises CorpusError for a file that cannot be read, or has no row."""
        survey = Survey(source, {path: file_layout(path, source.layout) for path in source.paths()})
        for path, layout in survey.layouts.items():
            rows = self._new_samples(survey, read_rows(path, layout, self.clean), advance)
            # The first pass holds one batch of samples at a time, and of each usable row only its place.
            while batch := list(islice(rows, BATCH)):
                for (row, key), tokens in zip(batch, self._lengths(batch), strict=True):
                    if self.max_tokens is not None and tokens > self.max_tokens:
                        survey.drop(row, "too_long", f"{tokens} tokens > {self.max_tokens}")
                    else:
                        survey.usable.append(Usable(path, row.number, key, tokens))
        return survey

    def _new_samples(
        self, survey: Survey, rows: Iterator[ImportedRow], advance: Advance
    ) -> Iterator[tuple[ImportedRow, bytes]]:
        """The rows that are samples, whose prompt is new and in no benchmark, each with the digest of its prompt."""
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
            # Before the comparison with benchmarks, so a copy of a contaminated row is a duplicate and not compared
            # again.
            self._seen[key] = row.where
            texts = (*asked_texts(row.result), *shown_texts(row.result))
            if copied := next(filter(None, map(self.benchmarks.overlap, texts)), ""):
                survey.drop(row, "contaminated", repr(copied))
                continue
            yield row, key

    def _lengths(self, batch: list[tuple[ImportedRow, bytes]]) -> list[int]:
        """Prompt tokens of a batch; a stored length is used if it was counted with this tokenizer."""
        from jinja2 import TemplateError

        samples = [row.result for row, _ in batch if isinstance(row.result, Sample)]
        # False or 0 for a sample whose prompt has to be counted.
        stored = [s.tokenizer_fingerprint == self.counter.fingerprint and s.prompt_tokens for s in samples]
        uncounted = [sample.prompt for sample, tokens in zip(samples, stored, strict=True) if not tokens]
        try:
            counted = iter(self.counter.count(uncounted))
        except TemplateError as error:
            raise CorpusError(
                f"{batch[0][0].where} to {batch[-1][0].where}: the chat template refuses a prompt: {error}. Fix: put "
                "the roles into the order that the template expects"
            ) from error
        # `counted` has the missing lengths in the order of the samples.
        return [tokens or next(counted) for tokens in stored]


def prompt_key(sample: Sample) -> bytes:
    """A digest that is equal for equal prompts."""
    return digest(*(message[part] for message in sample.prompt for part in ("role", "content")))


def asked_texts(sample: Sample) -> list[str]:
    """The question of a sample, alone and with each answer; the whole prompt if the question is unknown."""
    if not sample.question:
        return [message["content"] for message in sample.prompt]
    truth = sample.ground_truth
    # A ground truth that is neither text nor a list has no answer to compare.
    answers = [truth] if isinstance(truth, str) else truth if isinstance(truth, list) else []
    return [sample.question, *(f"{sample.question} {answer}" for answer in answers)]


def shown_texts(sample: Sample) -> list[str]:
    """Each turn of a prompt without its first and last EDGE characters; "" for a short turn."""
    return [message["content"][EDGE:-EDGE] for message in sample.prompt]
