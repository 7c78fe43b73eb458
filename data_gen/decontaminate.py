"""Training text that repeats a benchmark: any 13 words in a row that stand in one of the user's benchmark files.

The 13-gram rule is GPT-3's (Brown et al. 2020, appendix C). A shorter text, as most questions are, is compared whole,
from 5 words on. n-grams are compared by 64-bit hashes held in one sorted array (8 bytes each), so a benchmark of 100
million words takes 0.8 GB.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_gen.corpora import CorpusError, read_records
from data_gen.text import words

MIN_WORDS = 5
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def require(files: Iterable[str | Path]) -> None:
    """Raises CorpusError when one of the benchmark files is not there."""
    for file in files:
        if not Path(file).is_file():
            raise CorpusError(f"benchmarks: {file}: no such file; correct the path, or leave it out")


class Benchmarks:
    """The n-grams of benchmark files.

    Args:
        files: .txt, .jsonl, .json or .parquet; every text in them counts, however deep in lists and objects.
        n: words of an n-gram.

    Raises:
        CorpusError: a file is missing or cannot be read.
    """

    def __init__(self, files: Iterable[str | Path], n: int = 13):
        self.n = n
        self._short: set[str] = set()
        self._hashes = _EMPTY
        for file in files:
            found = [self._hashes]
            for text in _texts(Path(file)):
                found.append(ngrams(text, n))
                if MIN_WORDS <= len(tokens := words(text)) < n:
                    self._short.add(" ".join(tokens))
            self._hashes = np.unique(np.concatenate(found))

    def __len__(self) -> int:
        return len(self._hashes)

    def overlap(self, text: str) -> str:
        """The first words of `text` that a benchmark has too, "" when there are none."""
        if not len(self._hashes) and not self._short:
            return ""
        found = ngrams(text, self.n)
        if not len(found):
            whole = " ".join(words(text))
            return whole if whole in self._short else ""
        at = np.searchsorted(self._hashes[:-1], found)  # past all but the last is the last: a valid place in any case
        hits = np.flatnonzero(self._hashes[at] == found) if len(self._hashes) else at[:0]
        return " ".join(words(text)[hits[0] : hits[0] + self.n]) if len(hits) else ""


_EMPTY = np.zeros(0, dtype=np.uint64)


def ngrams(text: str, n: int) -> np.ndarray:
    """Hashes of the n-grams of a text's words, uint64 of shape (words - n + 1,), or (0,)."""
    hashed = np.array([hash(word) for word in words(text)], dtype=np.int64).view(
        np.uint64
    )  # valid in this process only
    if len(hashed) < n:
        return _EMPTY
    count = len(hashed) - n + 1
    total = np.zeros(count, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for offset in range(n):
            total = (total ^ (total >> np.uint64(29))) * _MULTIPLIER + hashed[offset : offset + count]
        return total ^ (total >> np.uint64(32))


def _texts(file: Path) -> Iterator[str]:
    for record in read_records(file):
        if isinstance(record, Exception):
            raise CorpusError(str(record))
        yield from _strings(record)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
