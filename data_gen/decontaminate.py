"""Training text that repeats a benchmark: words in a row that stand in one of the user's benchmark files.

The n-gram rule is GPT-3's (Brown et al. 2020, appendix C): 13 words, or for shorter texts as many as they have, from 8
on. So a question of 9 words is found in a benchmark's long text, and a benchmark's question of 9 words in a long
document. Texts of 5 to 7 words, which many documents contain by chance, are compared whole; shorter ones mean nothing.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_gen.document_readers import CorpusError, read_records
from data_gen.text import words

MIN_WORDS, MIN_PART = 5, 8
"""Words a text needs to be compared whole, and to be looked for within other texts."""
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_BETWEEN = np.array([0x5EA12A7E0D15C0DE], dtype=np.uint64)
"""Stands between texts, and is no word's hash: no n-gram of one text is found across two."""


def require(files: Iterable[str | Path]) -> None:
    """Raises CorpusError when one of the benchmark files is not there."""
    for file in files:
        if not Path(file).is_file():
            raise CorpusError(f"benchmarks: {file}: no such file; correct the path, or leave it out")


def fingerprints(files: Iterable[str | Path]) -> list[str]:
    """Each file's name and a digest of its content."""
    found = []
    for file in files:
        with Path(file).open("rb") as opened:
            found.append(f"{Path(file).name} {hashlib.file_digest(opened, 'sha256').hexdigest()[:12]}")
    return found


class Benchmarks:
    """The texts of benchmark files, as 64-bit hashes of their words and n-grams: 16 bytes for each word.

    Args:
        files: .txt, .jsonl, .json or .parquet; every text in them counts, however deep in lists and objects.
        n: words of an n-gram.

    Raises:
        CorpusError: a file is missing or cannot be read.
    """

    def __init__(self, files: Iterable[str | Path], n: int = 13):
        self.n = n
        texts: list[np.ndarray] = []
        whole: dict[int, list[np.ndarray]] = defaultdict(list)
        for text in (text for file in files for text in _texts(Path(file))):
            hashed = _hashes(words(text))
            texts += [hashed, _BETWEEN]
            if MIN_WORDS <= len(hashed) < n:
                whole[len(hashed)].append(ngrams(hashed, len(hashed)))
        self._words = np.concatenate(texts) if texts else _BETWEEN[:0]
        self._whole = {length: np.unique(np.concatenate(found)) for length, found in whole.items()}
        self._parts: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        """Different n-grams."""
        return len(self._of_length(self.n))

    def overlap(self, text: str) -> str:
        """The first words of `text` that a benchmark has too, "" when there are none."""
        if not len(self._words):
            return ""
        spelled = words(text)
        hashed = _hashes(spelled)
        here = min(len(hashed), self.n)
        known = [(length, self._whole[length]) for length in sorted(self._whole) if MIN_PART <= length <= len(hashed)]
        if MIN_WORDS <= here < MIN_PART and here in self._whole:
            known.append((here, self._whole[here]))
        if here >= MIN_PART:
            known.append((here, self._of_length(here)))
        for length, index in known:
            found = ngrams(hashed, length)
            hits = np.flatnonzero(_contains(index, found))
            if len(hits):
                return " ".join(spelled[hits[0] : hits[0] + length])
        return ""

    def _of_length(self, length: int) -> np.ndarray:
        """The n-grams of this length, sorted; made when first asked for."""
        if length not in self._parts:
            self._parts[length] = np.unique(ngrams(self._words, length))
        return self._parts[length]


def ngrams(hashed: np.ndarray, n: int) -> np.ndarray:
    """Hashes of the n-grams of words that are given by their hashes: uint64 of shape (words - n + 1,), or (0,)."""
    count = max(len(hashed) - n + 1, 0)
    total = np.zeros(count, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for offset in range(n):
            total = (total ^ (total >> np.uint64(29))) * _MULTIPLIER + hashed[offset : offset + count]
        return total ^ (total >> np.uint64(32))


def _hashes(spelled: list[str]) -> np.ndarray:
    """The words' hashes, valid in this process only."""
    return np.array([hash(word) for word in spelled], dtype=np.int64).view(np.uint64)


def _contains(index: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Which of `values` are in the sorted `index`."""
    if not len(index):
        return np.zeros(len(values), dtype=bool)
    return index[np.searchsorted(index[:-1], values)] == values  # past all but the last is the last


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
