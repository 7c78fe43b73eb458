"""Stage haystack: the passages of all questions, and of any other text, as what prompts are filled with.

The passages of questions that a later stage drops stay: they are as good as any other to hide something among.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from verl_longrl.rewards.options import Options, number

from data_gen.decontaminate import Benchmarks, fingerprints
from data_gen.document_readers import CorpusError, find, fingerprint
from data_gen.keychain.chain_solver import looks_like_chain
from data_gen.keychain.passage_pool import Haystack, body, build
from data_gen.keychain.sentence_ends import sentence_ends
from data_gen.pipeline import WholeStage
from data_gen.progress import Advance
from data_gen.special_tokens import SpecialTokens
from data_gen.store import Row, Store
from data_gen.tokenizer import load_tokenizer

_PARAGRAPH = re.compile(r"\n\s*\n")


@dataclass(frozen=True)
class HaystackOptions(Options):
    """files: further text for the haystack (files, folders, hf:NAME), such as books; what repeats a benchmark is left
    out. passage_words: short paragraphs of those are put together up to this many words, longer ones parted at sentence
    ends. text_field: of rows."""

    files: tuple[str, ...] = ()
    passage_words: int = 150
    text_field: str = "text"

    def __post_init__(self) -> None:
        number("haystack.passage_words", self.passage_words, 20, whole=True)


class Gather(WholeStage):
    """Row: `own`, the numbers of the question's passages in the haystack, and `gold`, those that answer it. The
    haystack itself is in the folder `passages` (see passage_pool.py)."""

    name = "haystack"
    after = ("questions",)

    def __init__(self, options: HaystackOptions, tokenizer: str, benchmarks: tuple[str, ...]):
        self.options, self.tokenizer, self.benchmark_files = options, tokenizer, benchmarks
        try:
            self.sources = find(list(options.files))[0] if options.files else []
        except CorpusError as error:
            raise CorpusError(f"haystack.files: {error}") from error

    def settings(self) -> dict[str, Any]:
        own = {"tokenizer": self.tokenizer, "files": fingerprint(self.sources)}
        return {**own, "benchmarks": fingerprints(self.benchmark_files), **self.named(self.options)}

    def make(self, store: Store, advance: Advance) -> Counter[str]:
        folder, tokenizer = store.root / self.name / "passages", load_tokenizer(self.tokenizer)
        build(folder, self._bodies(store, SpecialTokens(tokenizer)), tokenizer.backend_tokenizer)
        haystack = Haystack(folder)
        counts: Counter[str] = Counter()
        for part in store.parts("questions"):
            counts += store.write(self.name, part, self._rows(store, part, haystack))
            advance()
        return counts + Counter({"passages": len(haystack), "tokens": haystack.total_tokens})

    def _bodies(self, store: Store, special: SpecialTokens) -> Iterator[str]:
        for part in store.parts("questions"):
            for row in store.read("questions", part):
                yield from (body(passage["title"], passage["text"]) for passage in row.get("passages", ()))
        benchmarks = Benchmarks(self.benchmark_files if self.sources else ())
        for source in self.sources:
            for document in source.documents(self.options.text_field):
                if isinstance(document, CorpusError):
                    raise CorpusError(f"haystack.files: {document}")
                for text in passages_of(document.text, self.options.passage_words):
                    if not looks_like_chain(text) and not benchmarks.overlap(text):
                        yield special.break_up(text)

    def _rows(self, store: Store, part: str, haystack: Haystack) -> Iterator[Row]:
        for document in store.documents(part, ("questions",)):
            row = document["questions"]
            numbers = [haystack.find(body(passage["title"], passage["text"])) for passage in row["passages"]]
            gold = [number for number, passage in zip(numbers, row["passages"], strict=True) if passage["gold"]]
            yield {"id": row["id"], "own": numbers, "gold": gold}


def passages_of(text: str, most_words: int) -> Iterator[str]:
    """A text in passages of at most `most_words` words: paragraphs put together, or parted at sentence ends. A sentence
    that is longer stays whole."""
    text = text.replace("\r\n", "\n").encode("utf-8", "replace").decode()
    held: list[str] = []
    size = 0
    for paragraph in _PARAGRAPH.split(text):
        for sentence in _sentences(" ".join(paragraph.split()), most_words):
            length = len(sentence.split())
            if held and size + length > most_words:
                yield " ".join(held)
                held, size = [], 0
            held.append(sentence)
            size += length
    if held:
        yield " ".join(held)


def _sentences(paragraph: str, most_words: int) -> list[str]:
    """The paragraph, or its sentences where it is too long."""
    if len(paragraph.split()) <= most_words:
        return [paragraph] if paragraph else []
    return [paragraph[a:b].strip() for a, b in itertools.pairwise([0, *sentence_ends(paragraph), len(paragraph)])]
