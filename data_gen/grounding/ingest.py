"""Stage ingest: read files as documents of 8K to 64K tokens, with a reason for every document that is dropped.

Text is normalised here and never again, so that every later span refers to this text: line ends, control characters,
and chunk tags and special tokens that would be taken for the prompt's own. A document's id is a digest of its text. So
the same text has the same id, and with it the same seeds, whichever file it comes from.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic.dataclasses import dataclass
from verl_longrl.data.progress import Advance, progress_bar
from verl_longrl.data.prompt import neutralise_tags
from verl_longrl.options import OptionError, Options

from data_gen.config import ConfigError, PipelineConfig
from data_gen.decontaminate import Benchmarks, fingerprint_files, require_files
from data_gen.document_readers import (
    TEXT_SUFFIXES,
    CorpusError,
    DocumentSource,
    RawDocument,
    find_sources,
    fingerprint_sources,
    print_unreadable,
)
from data_gen.minhash import minhash_signature
from data_gen.pipeline import PipelineStage, recount
from data_gen.special_tokens import SpecialTokens
from data_gen.store import Row, Store, StoreError, dropped_row
from data_gen.text import digest
from data_gen.tokenizer import load_tokenizer

_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\ufeff\ufffe\uffff]")


@dataclass(frozen=True)
class IngestOptions(Options):
    """Options of stage ingest."""

    buckets: tuple[int, ...] = (8192, 16384, 32768, 65536)
    """Ascending lengths in tokens. Documents below the first or above the last one are dropped; the others are counted
    by the bucket that they fall into."""
    text_field: str = "text"
    """The field of JSON Lines, parquet and Hugging Face rows that holds the text."""
    text_suffixes: tuple[str, ...] = ()
    """Suffixes of further kinds of plain-text files, such as .py."""

    def __post_init__(self) -> None:
        if len(self.buckets) < 2 or sorted(set(self.buckets)) != list(self.buckets) or self.buckets[0] < 1:
            raise OptionError(
                "buckets", self.buckets, "expected ascending lengths", "write, for example, [8192, 65536]"
            )
        if not all(suffix.startswith(".") for suffix in self.text_suffixes):
            raise OptionError("text_suffixes", self.text_suffixes, "a suffix begins with a dot", "write [.py]")


class IngestStage(PipelineStage):
    """Row: `text`, `tokens`, `bucket`, `source` (file, and line or row), `meta` (other fields), `minhash`.

    Drops: unreadable, empty, too_short, too_long, contaminated.
    """

    name = "ingest"
    summary = "read documents, keep those of 8K to 64K tokens."
    blocks: ClassVar = {"ingest": IngestOptions}

    def __init__(
        self,
        options: IngestOptions,
        inputs: list[str],
        tokenizer: str,
        part_documents: int,
        benchmarks: tuple[str, ...],
    ):
        self.options, self.tokenizer, self.part_documents = options, tokenizer, part_documents
        self.unreadable = 0
        require_files(benchmarks)
        self.benchmark_files = benchmarks
        self.sources, self.others = find_sources(inputs, (*TEXT_SUFFIXES, *options.text_suffixes))

    @classmethod
    def from_config(cls, config: PipelineConfig, inputs: list[str]) -> Self:
        if not inputs:
            raise ConfigError("stage ingest needs --input: files, folders or hf:NAME")
        options = config.block(IngestOptions)
        return cls(options, inputs, config.tokenizer, config.part_documents, config.benchmarks)

    def settings(self) -> dict[str, Any]:
        return {
            "input": fingerprint_sources(self.sources),
            "tokenizer": self.tokenizer,
            "part_documents": self.part_documents,
            "ingest.buckets": self.options.buckets,
            "ingest.text_field": self.options.text_field,
            "benchmarks": fingerprint_files(self.benchmark_files),
        }

    def _make(self, store: Store) -> tuple[Counter[str], dict[str, Any]]:
        tokenizer = load_tokenizer(self.tokenizer)
        self.counter, self.special = tokenizer.backend_tokenizer, SpecialTokens(tokenizer)
        self.benchmarks = Benchmarks(self.benchmark_files)
        own = store.shard.of(list(enumerate(self._tasks())))
        # Parts are named TASK-PIECE, because nobody knows beforehand how many documents a task's files hold.
        existing: dict[str, list[str]] = defaultdict(list)
        for part in store.parts(self.name):
            existing[part.partition("-")[0]].append(part)
        if self.others:
            kinds = Counter(Path(other).suffix or "no suffix" for other in self.others)
            skipped = ", ".join(f"{kind} {number}" for kind, number in sorted(kinds.items()))
            print(f"ingest: files of other kinds are skipped: {skipped}", file=sys.stderr)
        counts: Counter[str] = Counter()
        with progress_bar(self.name, None, "documents") as advance:
            for number, sources in own:
                counts += self._run_task(store, f"{number:06d}", existing[f"{number:06d}"], sources, advance)
        return counts, {}

    def _tasks(self) -> list[list[DocumentSource]]:
        """Groups of sources that one rank reads: single-document files by the dozen, a file of many documents alone."""
        single = [source for source in self.sources if not source.many]
        tasks = [single[i : i + self.part_documents] for i in range(0, len(single), self.part_documents)]
        return tasks + [[source] for source in self.sources if source.many]

    def _run_task(
        self, store: Store, task: str, existing: list[str], sources: list[DocumentSource], advance: Advance
    ) -> Counter[str]:
        """Make the missing parts of one task; the counts of all its parts."""
        if existing != [f"{task}-{piece:06d}" for piece in range(len(existing))]:
            raise StoreError(
                f"{store.root / self.name}: parts of task {task} are missing. Fix: rerun with --redo {self.name}"
            )
        counts = recount(store, self.name, existing)
        # A part is complete or absent, so reading resumes after the documents of the existing parts.
        skip = len(existing) * self.part_documents
        if sources[0].many:
            documents = sources[0].documents(self.options.text_field, skip)
        else:
            documents = (document for source in sources[skip:] for document in source.documents())
        piece = len(existing)
        while batch := list(itertools.islice(documents, self.part_documents)):
            counts += store.write(self.name, f"{task}-{piece:06d}", self._rows(batch))
            advance(len(batch))
            piece += 1
        return counts

    def _rows(self, batch: list[RawDocument | CorpusError]) -> Iterator[Row]:
        normalised = [normalise(document.text) if isinstance(document, RawDocument) else "" for document in batch]
        texts = [self.special.break_up(text) for text in normalised]
        lengths = [len(e) for e in self.counter.encode_batch_fast(texts, add_special_tokens=False)]
        for document, before, text, tokens in zip(batch, normalised, texts, lengths, strict=True):
            row = self._row(document, text, tokens)
            if text != before:
                row["counts"] = {**row.get("counts", {}), "with special tokens": 1}
            yield row

    def _row(self, document: RawDocument | CorpusError, text: str, tokens: int) -> Row:
        if isinstance(document, CorpusError):
            self.unreadable += 1
            print_unreadable(self.name, document, self.unreadable)
            return dropped_row(digest(document).hex(), "unreadable", str(document))
        name, low, high = digest(text).hex(), self.options.buckets[0], self.options.buckets[-1]
        if not text:
            return dropped_row(name, "empty", document.where)
        if tokens < low:
            return dropped_row(name, "too_short", f"{document.where}: {tokens} tokens < {low}")
        if tokens > high:
            return dropped_row(name, "too_long", f"{document.where}: {tokens} tokens > {high}")
        if copied := self.benchmarks.overlap(text):
            return dropped_row(name, "contaminated", f"{document.where}: {copied!r}")
        bucket = next(f"{a}-{b}" for a, b in itertools.pairwise(self.options.buckets) if tokens <= b)
        return {
            "id": name,
            "text": text,
            "tokens": tokens,
            "bucket": bucket,
            "source": document.where,
            "meta": document.meta,
            "minhash": minhash_signature(text),
            "counts": {"tokens": tokens, f"bucket: {bucket}": 1},
        }


def normalise(text: str) -> str:
    """The text with newlines as line ends, harmless chunk tags, no control characters or lone surrogates, stripped."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace").decode()
    return neutralise_tags(_CONTROL.sub("", text)).strip()
