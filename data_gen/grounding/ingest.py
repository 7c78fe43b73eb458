"""Stage ingest: files become documents of 8K to 64K tokens, with a reason for every one that does not.

Text is normalised once, here (line ends, control characters, chunk tags and special tokens that would be read as the
prompt's own), so that every later span refers to this text. A document's id is made of its text: the same text has the
same id, and with it the same seeds, wherever it came from.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verl_longrl.data.prompt import neutralise_tags
from verl_longrl.rewards.options import Options

from data_gen.decontaminate import Benchmarks, fingerprints, require
from data_gen.document_readers import TEXT_SUFFIXES, CorpusError, RawDocument, Source, find, fingerprint
from data_gen.minhash import signature
from data_gen.pipeline import Stage, recount
from data_gen.progress import Advance, progress
from data_gen.special_tokens import SpecialTokens
from data_gen.store import Row, Store, StoreError, drop
from data_gen.text import digest
from data_gen.tokenizer import load_tokenizer

SHOWN = 20
"""Files and lines that cannot be read are named on the terminal up to this many, and all of them in the rows."""
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\ufeff\ufffe\uffff]")


@dataclass(frozen=True)
class IngestOptions(Options):
    """buckets: ascending lengths in tokens; documents below the first or above the last are dropped, the others named
    by the bucket they fall into. text_field: the field of JSON Lines, parquet and Hugging Face rows that holds the
    text. text_suffixes: further kinds of files that are plain text, such as .py."""

    buckets: tuple[int, ...] = (8192, 16384, 32768, 65536)
    text_field: str = "text"
    text_suffixes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.buckets) < 2 or sorted(set(self.buckets)) != list(self.buckets) or self.buckets[0] < 1:
            raise ValueError(f"ingest.buckets = {list(self.buckets)}; expected ascending lengths such as [8192, 65536]")
        for suffix in self.text_suffixes:
            if not suffix.startswith("."):
                raise ValueError(f"ingest.text_suffixes has {suffix!r}; expected a suffix such as .py")


class Ingest(Stage):
    """Row: `text`, `tokens`, `bucket`, `source` (file, and line or row), `meta` (other fields), `minhash`.

    Drops: unreadable, empty, too_short, too_long, contaminated.
    """

    name = "ingest"

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
        require(benchmarks)
        self.benchmark_files = benchmarks
        self.sources, self.others = find(inputs, (*TEXT_SUFFIXES, *options.text_suffixes))

    def settings(self) -> dict[str, Any]:
        return {
            "input": fingerprint(self.sources),
            "tokenizer": self.tokenizer,
            "part_documents": self.part_documents,
            "ingest.buckets": self.options.buckets,
            "ingest.text_field": self.options.text_field,
            "benchmarks": fingerprints(self.benchmark_files),
        }

    def _make(self, store: Store) -> tuple[Counter[str], dict[str, Any]]:
        tokenizer = load_tokenizer(self.tokenizer)
        self.counter, self.special = tokenizer.backend_tokenizer, SpecialTokens(tokenizer)
        self.benchmarks = Benchmarks(self.benchmark_files)
        mine = store.shard.of(list(enumerate(self._tasks())))
        made: dict[str, list[str]] = defaultdict(list)
        for part in store.parts(self.name):
            made[part.partition("-")[0]].append(part)
        if self.others:
            kinds = Counter(Path(other).suffix or "no suffix" for other in self.others)
            listed = ", ".join(f"{kind} {number}" for kind, number in sorted(kinds.items()))
            print(f"ingest: files of other kinds are left out: {listed}", file=sys.stderr)
        counts: Counter[str] = Counter()
        with progress(self.name, None, "documents") as advance:
            for number, sources in mine:
                counts += self._task(store, f"{number:06d}", made[f"{number:06d}"], sources, advance)
        return counts, {}

    def _tasks(self) -> list[list[Source]]:
        """Sources read one after another: many small files together, a file of many documents alone."""
        single = [source for source in self.sources if not source.many]
        tasks = [single[i : i + self.part_documents] for i in range(0, len(single), self.part_documents)]
        return tasks + [[source] for source in self.sources if source.many]

    def _task(self, store: Store, task: str, made: list[str], sources: list[Source], advance: Advance) -> Counter[str]:
        """The parts of one task; those that an earlier process made are counted instead."""
        if made != [f"{task}-{piece:06d}" for piece in range(len(made))]:
            raise StoreError(f"{store.root / self.name}: parts of task {task} are missing; use --redo {self.name}")
        counts = recount(store, self.name, made)
        skip = len(made) * self.part_documents
        if sources[0].many:
            documents = sources[0].documents(self.options.text_field, skip)
        else:
            documents = (document for source in sources[skip:] for document in source.documents())
        piece = len(made)
        while batch := list(itertools.islice(documents, self.part_documents)):
            counts += store.write(self.name, f"{task}-{piece:06d}", self._rows(batch))
            advance(len(batch))
            piece += 1
        return counts

    def _rows(self, batch: list[RawDocument | CorpusError]) -> Iterator[Row]:
        given = [normalise(found.text) if isinstance(found, RawDocument) else "" for found in batch]
        texts = [self.special.break_up(text) for text in given]
        lengths = [len(e) for e in self.counter.encode_batch_fast(texts, add_special_tokens=False)]
        for found, before, text, tokens in zip(batch, given, texts, lengths, strict=True):
            row = self._row(found, text, tokens)
            yield row if text == before else row | {"counts": {**row.get("counts", {}), "with special tokens": 1}}

    def _row(self, found: RawDocument | CorpusError, text: str, tokens: int) -> Row:
        if isinstance(found, CorpusError):
            self.unreadable += 1
            if self.unreadable <= SHOWN:
                print(f"ingest: {found}", file=sys.stderr)
            elif self.unreadable == SHOWN + 1:
                print("ingest: more cannot be read; all: grep '\"unreadable\"' in its .jsonl files", file=sys.stderr)
            return drop(digest(found).hex(), "unreadable", str(found))
        name, low, high = digest(text).hex(), self.options.buckets[0], self.options.buckets[-1]
        if not text:
            return drop(name, "empty", found.where)
        if tokens < low:
            return drop(name, "too_short", f"{found.where}: {tokens} tokens < {low}")
        if tokens > high:
            return drop(name, "too_long", f"{found.where}: {tokens} tokens > {high}")
        if copied := self.benchmarks.overlap(text):
            return drop(name, "contaminated", f"{found.where}: {copied!r}")
        bucket = next(f"{a}-{b}" for a, b in itertools.pairwise(self.options.buckets) if tokens <= b)
        return {
            "id": name,
            "text": text,
            "tokens": tokens,
            "bucket": bucket,
            "source": found.where,
            "meta": found.meta,
            "minhash": signature(text),
            "counts": {"tokens": tokens, f"bucket: {bucket}": 1},
        }


def normalise(text: str) -> str:
    """Line ends as newlines, no control characters or lone surrogates, chunk tags made harmless, stripped."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace").decode()
    return neutralise_tags(_CONTROL.sub("", text)).strip()
