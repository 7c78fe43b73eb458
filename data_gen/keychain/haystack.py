"""Stage haystack: collect the passages of all questions, and of any further text, to fill prompts with.

Passages of questions that a later stage drops remain in the haystack: they are as good a filling as any other.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from annotated_types import Ge
from pydantic.dataclasses import dataclass
from verl_longrl.data.progress import Advance
from verl_longrl.options import Options

from data_gen.config import PipelineConfig
from data_gen.decontaminate import Benchmarks, fingerprint_files
from data_gen.document_readers import CorpusError, find_sources, fingerprint_sources
from data_gen.keychain.chain_solver import looks_like_chain
from data_gen.keychain.passage_pool import Haystack, PassageMeasure, build_haystack, passage_body
from data_gen.keychain.sentence_ends import sentence_ends
from data_gen.pipeline import WholeStage
from data_gen.special_tokens import SpecialTokens
from data_gen.store import Row, Store
from data_gen.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_PARAGRAPH = re.compile(r"\n\s*\n")


@dataclass(frozen=True)
class HaystackOptions(Options):
    """Options of stage haystack."""

    files: tuple[str, ...] = ()
    """Further text for the haystack, such as books: files, folders, hf:NAME. Passages that repeat a benchmark are left
    out."""
    passage_words: Annotated[int, Ge(20)] = 150
    """Words of a passage of these files. Shorter paragraphs are joined, longer ones divided at sentence ends."""
    text_field: str = "text"
    """The field of JSON Lines, parquet and Hugging Face rows that holds the text."""


class HaystackStage(WholeStage):
    """Row: `own`, the numbers of the question's passages in the haystack, and `gold`, those that answer it. The
    haystack itself is in the folder `passages` (see passage_pool.py)."""

    name = "haystack"
    summary = "gather the passages that prompts are filled with."
    blocks: ClassVar = {"haystack": HaystackOptions}
    after = ("questions",)

    def __init__(self, options: HaystackOptions, tokenizer: str, benchmarks: tuple[str, ...]):
        self.options, self.tokenizer, self.benchmark_files = options, tokenizer, benchmarks
        try:
            self.sources = find_sources(list(options.files))[0] if options.files else []
        except CorpusError as error:
            raise CorpusError(f"haystack.files: {error}") from error

    @classmethod
    def from_config(cls, config: PipelineConfig, inputs: list[str]) -> Self:
        return cls(config.block(HaystackOptions), config.tokenizer, config.benchmarks)

    def settings(self) -> dict[str, Any]:
        return {
            "tokenizer": self.tokenizer,
            "files": fingerprint_sources(self.sources),
            "benchmarks": fingerprint_files(self.benchmark_files),
            **self.block_settings(self.options),
        }

    def measure(self, tokenizer: PreTrainedTokenizerFast) -> PassageMeasure:
        """Measures passages as the prompts of this pipeline show them."""
        return PassageMeasure(tokenizer.backend_tokenizer)

    def open_haystack(self, folder: Path) -> Haystack:
        """The finished haystack."""
        return Haystack(folder)

    def is_unfit(self, text: str) -> bool:
        """Whether a further text could be taken for a part of the prompt's structure."""
        # A prompt must have no pairs of keys and values besides its own.
        return looks_like_chain(text)

    def make(self, store: Store, advance: Advance) -> Counter[str]:
        folder, tokenizer = store.root / self.name / "passages", load_tokenizer(self.tokenizer)
        build_haystack(folder, self._bodies(store, SpecialTokens(tokenizer)), self.measure(tokenizer))
        haystack = self.open_haystack(folder)
        counts: Counter[str] = Counter()
        for part in store.parts("questions"):
            rows = (self.row(document["questions"], haystack) for document in store.documents(part, ("questions",)))
            counts += store.write(self.name, part, rows)
            advance()
        return counts + Counter({"passages": len(haystack), "tokens": haystack.total_tokens})

    def _bodies(self, store: Store, special: SpecialTokens) -> Iterator[str]:
        for part in store.parts("questions"):
            for row in store.read("questions", part):
                for passage in row.get("passages", ()):
                    yield passage_body(passage["title"], passage["text"])
        # Stage questions has compared the questions' own passages.
        benchmarks = Benchmarks(self.benchmark_files if self.sources else ())
        for source in self.sources:
            for document in source.documents(self.options.text_field):
                if isinstance(document, CorpusError):
                    raise CorpusError(f"haystack.files: {document}")
                for text in split_into_passages(document.text, self.options.passage_words):
                    if not self.is_unfit(text) and not benchmarks.overlap(text):
                        yield special.break_up(text)

    def row(self, question: Row, haystack: Any) -> Row:
        """The row of a question."""
        # Equal passages of several questions are one passage of the haystack, so they have one number.
        numbers = [haystack.find(passage_body(passage["title"], passage["text"])) for passage in question["passages"]]
        gold = [number for number, passage in zip(numbers, question["passages"], strict=True) if passage["gold"]]
        return {"id": question["id"], "own": numbers, "gold": gold}


def split_into_passages(text: str, most_words: int) -> Iterator[str]:
    """The passages of a text, of at most `most_words` words: paragraphs joined, or divided at sentence ends. A sentence
    that is longer stays whole."""
    # encode and decode replace surrogates, which UTF-8 cannot express, with question marks.
    text = text.replace("\r\n", "\n").encode("utf-8", "replace").decode()
    pending: list[str] = []
    size = 0
    for paragraph in _PARAGRAPH.split(text):
        for sentence in _sentences(" ".join(paragraph.split()), most_words):
            length = len(sentence.split())
            # `most_words` may be exceeded only by a single sentence.
            if pending and size + length > most_words:
                yield " ".join(pending)
                pending, size = [], 0
            pending.append(sentence)
            size += length
    if pending:
        yield " ".join(pending)


def _sentences(paragraph: str, most_words: int) -> list[str]:
    """The paragraph, or its sentences if it is too long."""
    if len(paragraph.split()) <= most_words:
        return [paragraph] if paragraph else []
    # Ends at 10 and 25 of 40 characters give the sentences 0:10, 10:25 and 25:40.
    return [paragraph[a:b].strip() for a, b in itertools.pairwise([0, *sentence_ends(paragraph), len(paragraph)])]
