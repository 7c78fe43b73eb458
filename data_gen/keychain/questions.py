"""Stage questions: files of short multi-hop questions become rows, each with its passages; nothing is said twice.

Repeated questions (by their words) and questions or passages that repeat a benchmark are dropped here, before
anything is asked or composed; special tokens in their text are broken up."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from verl_longrl.rewards.options import Options, choice

from data_gen.decontaminate import Benchmarks, fingerprints, require
from data_gen.document_readers import CorpusError
from data_gen.keychain.chain_solver import looks_like_chain
from data_gen.keychain.question_readers import Layout, Question, Skipped, alias_file, read_questions
from data_gen.pipeline import WholeStage
from data_gen.progress import Advance
from data_gen.special_tokens import SpecialTokens
from data_gen.store import Row, Store, drop
from data_gen.text import digest
from data_gen.tokenizer import load_tokenizer

SHOWN = 20


@dataclass(frozen=True)
class QuestionsOptions(Options):
    """layout: of the files (see question_readers.py); auto looks at each file's first row. limit: questions taken
    from each file, 0 for all."""

    layout: Layout = "auto"
    limit: int = 0

    def __post_init__(self) -> None:
        choice("questions.layout", self.layout, Layout)
        if self.limit < 0:
            raise ValueError(f"questions.limit = {self.limit}; expected 0 (all) or a number of questions")


class Questions(WholeStage):
    """Row: `question`, `answers`, `passages` ({title, text, gold}), `source`. Drops: unreadable, what readers skip
    (unanswerable), duplicate, no_passages, looks_like_a_chain, contaminated."""

    name = "questions"
    unit = "questions"

    def __init__(
        self,
        options: QuestionsOptions,
        inputs: list[str],
        tokenizer: str,
        part_documents: int,
        benchmarks: tuple[str, ...],
    ):
        require(benchmarks)
        for path in inputs:
            if not Path(path).is_file():
                raise CorpusError(
                    f"--input {path}: no such file; give files (no folders), such as hotpot_train_v1.1.json"
                )
        self.options, self.inputs, self.tokenizer = options, inputs, tokenizer
        self.part_documents, self.benchmark_files = part_documents, benchmarks

    def settings(self) -> dict[str, Any]:
        read = [Path(path) for path in self.inputs]
        read += [beside for beside in map(alias_file, self.inputs) if beside]
        files = [f"{path} {path.stat().st_size}" for path in read]
        own = {"input": files, "tokenizer": self.tokenizer, "part_documents": self.part_documents}
        return {**own, "benchmarks": fingerprints(self.benchmark_files), **self.named(self.options)}

    def make(self, store: Store, advance: Advance) -> Counter[str]:
        self.benchmarks = Benchmarks(self.benchmark_files)
        self.special = SpecialTokens(load_tokenizer(self.tokenizer))
        self.seen: set[bytes] = set()
        self.unreadable = 0
        counts: Counter[str] = Counter()
        rows = (self._row(found) for path in self.inputs for found in self._read(path))
        for part in itertools.count():
            batch = list(itertools.islice(rows, self.part_documents))
            if not batch:
                return counts
            counts += store.write(self.name, f"{part:06d}", batch)
            advance(len(batch))
        raise AssertionError("the loop ends with the questions")

    def _read(self, path: str) -> Iterator[Question | Skipped | CorpusError]:
        found = read_questions(path, self.options.layout)
        return itertools.islice(found, self.options.limit) if self.options.limit else found

    def _row(self, found: Question | Skipped | CorpusError) -> Row:
        if isinstance(found, CorpusError):
            self.unreadable += 1
            if self.unreadable <= SHOWN:
                print(f"questions: {found}", file=sys.stderr)
            elif self.unreadable == SHOWN + 1:
                print("questions: more cannot be read; all: grep '\"unreadable\"' in its .jsonl files", file=sys.stderr)
            return drop(digest(found).hex(), "unreadable", str(found))
        if isinstance(found, Skipped):
            return drop(digest(found.where).hex(), found.reason, found.where)
        given, found = found, self._as_text(found)
        key = digest(" ".join(found.question.casefold().split()))
        name = key.hex()
        if key in self.seen:
            return drop(name, "duplicate", found.where)
        self.seen.add(key)
        if not found.passages:
            return drop(name, "no_passages", found.where)
        passages = [f"{passage.title}\n{passage.text}" for passage in found.passages]
        if any(map(looks_like_chain, (found.question, *passages))):
            return drop(name, "looks_like_a_chain", found.where)
        answers = [f"{found.question} {answer}" for answer in found.answers]
        texts = [found.question, *answers, *passages]
        if copied := next(filter(None, map(self.benchmarks.overlap, texts)), ""):
            return drop(name, "contaminated", f"{found.where}: {copied!r}")
        return {
            "id": name,
            "question": found.question,
            "answers": list(found.answers),
            "passages": [vars(passage) for passage in found.passages],
            "source": found.where,
            "counts": {f"layout: {found.layout}": 1, "with special tokens": int(found != given)},
        }

    def _as_text(self, found: Question) -> Question:
        """The question without special tokens in it, its answers and its passages."""
        text = self.special.break_up
        passages = (replace(p, title=text(p.title), text=text(p.text)) for p in found.passages)
        answers = tuple(map(text, found.answers))
        return replace(found, question=text(found.question), answers=answers, passages=tuple(passages))
