"""Stage questions: read short multi-hop questions with their passages, and drop duplicates and benchmark questions.

Repeated questions (by their words) and questions or passages that repeat a benchmark are dropped here, before any
request is sent or prompt composed. Special tokens in the texts are broken up."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import NonNegativeInt
from pydantic.dataclasses import dataclass
from verl_longrl.data.progress import Advance
from verl_longrl.options import Options

from data_gen.config import ConfigError, PipelineConfig
from data_gen.decontaminate import Benchmarks, fingerprint_files, require_files
from data_gen.document_readers import CorpusError, print_unreadable
from data_gen.keychain.chain_solver import looks_like_chain
from data_gen.pipeline import WholeStage
from data_gen.question_readers.multi_hop import alias_file
from data_gen.question_readers.question import AnnotatedQuestion, Layout, QuestionPassage, Skipped
from data_gen.question_readers.read import read_questions
from data_gen.special_tokens import SpecialTokens, follow_spans
from data_gen.store import Row, Store, dropped_row
from data_gen.text import digest
from data_gen.tokenizer import load_tokenizer


@dataclass(frozen=True)
class QuestionsOptions(Options):
    """Options of stage questions."""

    layout: Layout = "auto"
    """Layout of the files (see question_readers/read.py). With auto, each file's first row decides."""
    limit: NonNegativeInt = 0
    """Questions to take from each file, 0 for all."""


class QuestionsStage(WholeStage):
    """Row: `question`, `answers`, `passages` ({title, text, gold, evidence}), `source`, `question_id` (the file's),
    `comparison`, `group` (see AnnotatedQuestion). Drops: unreadable, the reasons of `Skipped` such as unanswerable,
    duplicate, no_passages, looks_like_a_chain, contaminated."""

    name = "questions"
    summary = "read questions with their passages (HotpotQA, 2WikiMultihopQA, MuSiQue, SQuAD, JSON Lines, ...)."
    blocks: ClassVar = {"questions": QuestionsOptions}
    unit = "questions"

    def __init__(
        self,
        options: QuestionsOptions,
        inputs: list[str],
        tokenizer: str,
        part_documents: int,
        benchmarks: tuple[str, ...],
    ):
        require_files(benchmarks)
        for path in inputs:
            if not Path(path).is_file():
                raise CorpusError(
                    f"--input {path}: no such file. Fix: give files (not folders), such as hotpot_train_v1.1.json"
                )
        self.options, self.inputs, self.tokenizer = options, inputs, tokenizer
        self.part_documents, self.benchmark_files = part_documents, benchmarks

    @classmethod
    def from_config(cls, config: PipelineConfig, inputs: list[str]) -> Self:
        if not inputs:
            raise ConfigError("stage questions needs --input: files of questions")
        options = config.block(QuestionsOptions)
        return cls(options, inputs, config.tokenizer, config.part_documents, config.benchmarks)

    def settings(self) -> dict[str, Any]:
        files = [Path(path) for path in self.inputs]
        files += [aliases for aliases in map(alias_file, self.inputs) if aliases]
        return {
            "input": [f"{path} {path.stat().st_size}" for path in files],
            "tokenizer": self.tokenizer,
            "part_documents": self.part_documents,
            "benchmarks": fingerprint_files(self.benchmark_files),
            **self.block_settings(self.options),
        }

    def make(self, store: Store, advance: Advance) -> Counter[str]:
        self.benchmarks = Benchmarks(self.benchmark_files)
        self.special = SpecialTokens(load_tokenizer(self.tokenizer))
        self.seen: set[bytes] = set()
        self.unreadable = 0
        counts: Counter[str] = Counter()
        rows = (self._row(entry) for path in self.inputs for entry in self._entries(path))
        part = 0
        while batch := list(itertools.islice(rows, self.part_documents)):
            counts += store.write(self.name, f"{part:06d}", batch)
            advance(len(batch))
            part += 1
        return counts

    def _entries(self, path: str) -> Iterator[AnnotatedQuestion | Skipped | CorpusError]:
        entries = read_questions(path, self.options.layout)
        return itertools.islice(entries, self.options.limit) if self.options.limit else entries

    def _row(self, entry: AnnotatedQuestion | Skipped | CorpusError) -> Row:
        if isinstance(entry, CorpusError):
            self.unreadable += 1
            print_unreadable(self.name, entry, self.unreadable)
            return dropped_row(digest(entry).hex(), "unreadable", str(entry))
        if isinstance(entry, Skipped):
            return dropped_row(digest(entry.where).hex(), entry.reason, entry.where)
        question = self._clean(entry)
        key = digest(" ".join(question.question.casefold().split()))
        name = key.hex()
        if key in self.seen:
            return dropped_row(name, "duplicate", question.where)
        self.seen.add(key)
        if not question.passages:
            return dropped_row(name, "no_passages", question.where)
        if fault := self.find_fault(question):
            reason, detail = fault
            return dropped_row(name, reason, f"{question.where}: {detail}" if detail else question.where)
        passages = list(map(whole_text, question.passages))
        answers = [f"{question.question} {answer}" for answer in question.answers]
        texts = [question.question, *answers, *passages]
        if copied := next(filter(None, map(self.benchmarks.overlap, texts)), ""):
            return dropped_row(name, "contaminated", f"{question.where}: {copied!r}")
        return {
            "id": name,
            "question": question.question,
            "answers": list(question.answers),
            "passages": [vars(passage) for passage in question.passages],
            "source": question.where,
            "question_id": question.id,
            "comparison": question.comparison,
            "group": question.group,
            "counts": {f"layout: {question.layout}": 1, "with special tokens": int(question != entry)},
        }

    def find_fault(self, question: AnnotatedQuestion) -> tuple[str, str] | None:
        """The reason why a question cannot be used, and details; None if it can."""
        texts = (question.question, *map(whole_text, question.passages))
        return ("looks_like_a_chain", "") if any(map(looks_like_chain, texts)) else None

    def clean(self, text: str) -> str:
        """A text as prompts may show it; only spaces may be inserted, and characters replaced."""
        return self.special.break_up(text)

    def _clean(self, entry: AnnotatedQuestion) -> AnnotatedQuestion:
        """The question with all of its texts cleaned."""
        passages = []
        for passage in entry.passages:
            text = self.clean(passage.text)
            evidence = tuple(follow_spans(passage.text, text, passage.evidence))
            passages.append(QuestionPassage(self.clean(passage.title), text, passage.gold, evidence))
        answers = tuple(map(self.clean, entry.answers))
        return replace(entry, question=self.clean(entry.question), answers=answers, passages=tuple(passages))


def whole_text(passage: QuestionPassage) -> str:
    """A passage's title and text."""
    return f"{passage.title}\n{passage.text}"
