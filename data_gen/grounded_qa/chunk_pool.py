"""The haystack of chunks: every passage is cut into chunks and tokenised once, as prompts will show them.

A passage of at most `max_tokens` is one chunk; a longer one is cut by the splitter of `data_gen.grounding`, and a short
first line (its title) stays with the text after it. No chunk has text of two passages.

In a prompt a chunk is `<CHUNK_12>text</CHUNK_12>` and a line end. Its tokens are counted from `>` to `</CHUNK_`,
between two numbers: tokenizers that keep digits apart from other characters, as those of Qwen and Llama 3 do, begin a
new token there, so that counts add up.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from verl_longrl.data.prompt import grounded_prompt

from data_gen.grounding.chunk import ChunkOptions
from data_gen.grounding.splitter import Splitter
from data_gen.keychain.lengths import PartLengths
from data_gen.keychain.passage_filler import PassageFiller, PromptPassage
from data_gen.keychain.passage_pool import Haystack, PassageMeasure, count_tokens
from data_gen.question_readers.question import Span

Unit = Literal["tokens", "chunks"]
_BETWEEN = ">\n<CHUNK_"
_WORD = re.compile(r"\w")


def framed(text: str) -> str:
    """A chunk's text with what is around it in a prompt, from number to number."""
    return f">{text}</CHUNK_"


class ChunkMeasure(PassageMeasure):
    """Cuts passages into chunks and counts them."""

    def __init__(self, tokenizer: Any, options: ChunkOptions):
        super().__init__(tokenizer)
        self.options = options
        self.splitter = Splitter(tokenizer, options.max_tokens, options.separators)
        # Chunks of passage n are number first[n] to first[n + 1]: their first and last bytes, and tokens.
        self.first, self.starts, self.ends, self.counts = array("q", [0]), array("i"), array("i"), array("i")

    def tokens(self, texts: list[str]) -> list[int]:
        return [self._add(text, count) for text, count in zip(texts, self._count(texts), strict=True)]

    def arrays(self) -> dict[str, np.ndarray]:
        named = {"first_chunk": self.first, "chunk_starts": self.starts, "chunk_ends": self.ends}
        return {name: np.asarray(values) for name, values in (named | {"chunk_tokens": self.counts}).items()}

    def _count(self, texts: Sequence[str]) -> list[int]:
        return count_tokens(self.tokenizer, [framed(text) for text in texts])

    def _add(self, text: str, count: int) -> int:
        spans, counts = [(0, len(text))], [count]
        if count > self.options.max_tokens:
            spans = self.cut(text)
            counts = self._count([text[start:end] for start, end in spans])
        for start, end in spans:
            self.starts.append(len(text[:start].encode("utf-8", "replace")))
            self.ends.append(len(text[:end].encode("utf-8", "replace")))
        self.counts.extend(counts)
        self.first.append(len(self.counts))
        return sum(counts)

    def cut(self, text: str) -> list[Span]:
        """The chunks of a passage."""
        chunks = self.splitter.split(text)
        if len(chunks) > 1 and chunks[0].end <= text.find("\n") and chunks[0].tokens <= self.options.max_tokens // 4:
            # The title would be a chunk of its own, as the paragraph after it is longer than a chunk.
            rest, at = chunks[0].end, chunks[0].start
            smaller = Splitter(self.tokenizer, self.options.max_tokens - chunks[0].tokens, self.options.separators)
            spans = [(rest + chunk.start, rest + chunk.end) for chunk in smaller.split(text[rest:])]
            return [(at, spans[0][1]), *spans[1:]]
        return [(chunk.start, chunk.end) for chunk in chunks]


class ChunkPool(Haystack):
    """A haystack of passages that `ChunkMeasure` has cut. unit: what the sizes of passages are counted in."""

    def __init__(self, folder: Path, unit: Unit = "tokens"):
        super().__init__(folder)
        names = ("first_chunk", "chunk_starts", "chunk_ends", "chunk_tokens")
        first, *chunks = (np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in names)
        self.unit, self._first_chunk, self._chunks = unit, first, chunks
        if unit == "chunks":
            sizes = np.diff(first).astype(np.int32)
            self._set_sizes(sizes, np.argsort(sizes, kind="stable"))

    def chunks(self, passage: int) -> list[tuple[int, int, int]]:
        """[start, end, tokens] of each chunk of a passage, in bytes of `raw(passage)`."""
        first, last = self._first_chunk[passage : passage + 2]
        return list(zip(*(values[first:last].tolist() for values in self._chunks), strict=True))

    def overlapping(self, passage: int, spans: Sequence[Span]) -> list[int]:
        """The chunks of a passage that share a word, or a part of one, with any of the spans, which are in characters.

        A chunk may begin with the full stop of the sentence before it, which is not evidence.
        """
        raw = self.raw(passage)
        text = raw.decode("utf-8", "replace")
        in_bytes = [(len(text[:start].encode()), len(text[:end].encode())) for start, end in spans]
        return [
            number
            for number, (start, end, _) in enumerate(self.chunks(passage))
            if any(_WORD.search(raw[max(start, a) : min(end, b)].decode("utf-8", "replace")) for a, b in in_bytes)
        ]

    def runs(self, passage: int, numbers: Collection[int]) -> Iterator[bytes]:
        """The text of these chunks of a passage; neighbours are one text, as in the passage."""
        raw, chunks = self.raw(passage), self.chunks(passage)
        for number in sorted(numbers):
            if number - 1 in numbers:
                continue
            last = number
            while last + 1 in numbers:
                last += 1
            yield raw[chunks[number][0] : chunks[last][1]]


class ChunkLengths(PartLengths):
    """Counts the parts of grounded prompts. The heading of a chunk is its number, twice, and what is before the next
    chunk's."""

    def each_heading(self, numbers: Sequence[int]) -> list[int]:
        (between,) = self.count([_BETWEEN])
        return [2 * count + between for count in self.count([str(number - 1) for number in numbers])]

    def fixed(self, question: str, instructions: str) -> int:
        """Tokens of a prompt besides its chunks and their headings."""
        with_one = self.prompt(grounded_prompt(["x"], question, instructions)[0]["content"])
        chunk, number, between = self.count([framed("x"), "0", _BETWEEN])
        # After the last chunk there is no next one.
        return with_one - chunk - 2 * number - between


class CountedByNumber(ChunkLengths):
    """The lengths of prompts that are measured in chunks, where headings do not count."""

    def headings(self, passages: int) -> int:
        return 0


class ChunkFiller(PassageFiller):
    """Fills prompts with passages of a pool, of which a last one may be cut after a chunk or a sentence."""

    haystack: ChunkPool

    def passage(self, number: int) -> PromptPassage:
        pool = self.haystack
        return PromptPassage(pool.raw(number), (), int(pool.tokens[number]), number, pool.chunks(number))

    def _cut(self, number: int, least: int, most: int, headings: int) -> PromptPassage | None:
        pool, raw = self.haystack, self.haystack.raw(number)
        kept: list[tuple[int, int, int]] = []
        size = used = 0
        for start, end, tokens in pool.chunks(number):
            used = size + self._more_headings(headings + 1, len(kept))
            if used + (tokens if pool.unit == "tokens" else 1) > most:
                if pool.unit == "tokens" and (part := self._shorten(number, raw, start, end, most - used)):
                    kept.append(part)
                    size, used = size + part[2], used + part[2]
                break
            kept.append((start, end, tokens))
            size += tokens if pool.unit == "tokens" else 1
        if not kept or used < least:
            return None
        return PromptPassage(raw[: kept[-1][1]], (), size, -1, kept)

    def _shorten(self, number: int, raw: bytes, start: int, end: int, most: int) -> tuple[int, int, int] | None:
        """The first sentences of a chunk, as many as fit into `most` tokens."""
        ends = [int(at) for at in self.haystack.ends(number) if start < at < end]

        def count(at: int) -> int:
            return self.lengths.count([framed(raw[start:at].decode("utf-8", "replace"))])[0]

        fitting = bisect_right(ends, most, key=count)
        return (start, ends[fitting - 1], count(ends[fitting - 1])) if fitting else None
