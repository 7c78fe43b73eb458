"""Find training text that repeats a benchmark: a sequence of words that also appears in one of the benchmark files.

The n-gram rule is GPT-3's (Brown et al. 2020, appendix C): 13 words, or for shorter texts all of their words, if they
have at least 8. So a question of 9 words is found in a benchmark's long text, and a benchmark's question of 9 words in
a long document. Texts of 5 to 7 words, which many documents contain by chance, are only compared as a whole; shorter
ones are ignored.
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
"""Fewest words of a text that is compared as a whole, and of one that is searched for within other texts."""
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SEPARATOR = np.array([0x5EA12A7E0D15C0DE], dtype=np.uint64)
"""A value between the word hashes of two texts, so that an n-gram never matches across both."""


def require_files(files: Iterable[str | Path]) -> None:
    """Raise CorpusError if one of the benchmark files does not exist."""
    for file in files:
        if not Path(file).is_file():
            raise CorpusError(f"benchmarks: {file}: no such file. Fix: correct the path, or leave it out")


def fingerprint_files(files: Iterable[str | Path]) -> list[str]:
    """Each file's name and a digest of its content."""
    fingerprints = []
    for file in files:
        with Path(file).open("rb") as content:
            fingerprints.append(f"{Path(file).name} {hashlib.file_digest(content, 'sha256').hexdigest()[:12]}")
    return fingerprints


class Benchmarks:
    """The texts of benchmark files, as 64-bit hashes of their words and n-grams: 16 bytes for each word.

    Args:
        files: .txt, .jsonl, .json or .parquet; all texts in them count, also those within lists and objects.
        n: words of an n-gram.

    Raises:
        CorpusError: a file is missing or cannot be read.
    """

    def __init__(self, files: Iterable[str | Path], n: int = 13):
        self.n = n
        texts: list[np.ndarray] = []
        whole: dict[int, list[np.ndarray]] = defaultdict(list)
        for text in (text for file in files for text in _texts(Path(file))):
            hashed = _hash_words(words(text))
            texts += [hashed, _SEPARATOR]
            if MIN_WORDS <= len(hashed) < n:
                whole[len(hashed)].append(hash_ngrams(hashed, len(hashed)))
        self._words = np.concatenate(texts) if texts else _SEPARATOR[:0]
        self._whole = {length: np.unique(np.concatenate(hashes)) for length, hashes in whole.items()}
        self._parts: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        """The number of different n-grams."""
        return len(self._of_length(self.n))

    def overlap(self, text: str) -> str:
        """The first words of `text` that also appear in a benchmark, "" if there are none."""
        if not len(self._words):
            return ""
        spelled = words(text)
        hashed = _hash_words(spelled)
        longest = min(len(hashed), self.n)
        # (length, sorted hashes of benchmark n-grams of this length) to look for in the text. First short benchmark
        # texts, whole, within this text; then this text, or its n-grams, within all benchmark texts.
        to_compare = [(n, self._whole[n]) for n in sorted(self._whole) if MIN_PART <= n <= len(hashed)]
        if MIN_WORDS <= longest < MIN_PART and longest in self._whole:
            to_compare.append((longest, self._whole[longest]))
        if longest >= MIN_PART:
            to_compare.append((longest, self._of_length(longest)))
        for length, index in to_compare:
            hits = np.flatnonzero(_contains(index, hash_ngrams(hashed, length)))
            if len(hits):
                return " ".join(spelled[hits[0] : hits[0] + length])
        return ""

    def _of_length(self, length: int) -> np.ndarray:
        """The hashes of all n-grams of this length, sorted; computed on first use."""
        if length not in self._parts:
            self._parts[length] = np.unique(hash_ngrams(self._words, length))
        return self._parts[length]


def hash_ngrams(hashed: np.ndarray, n: int) -> np.ndarray:
    """Hashes of the n-grams of a text, given the hashes of its words: uint64 of shape (words - n + 1,), or (0,)."""
    count = max(len(hashed) - n + 1, 0)
    total = np.zeros(count, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for offset in range(n):
            total = (total ^ (total >> np.uint64(29))) * _MULTIPLIER + hashed[offset : offset + count]
        return total ^ (total >> np.uint64(32))


def _hash_words(spelled: list[str]) -> np.ndarray:
    """The words' hashes, valid in this process only."""
    return np.array([hash(word) for word in spelled], dtype=np.int64).view(np.uint64)


def _contains(index: np.ndarray, values: np.ndarray) -> np.ndarray:
    """For each of `values`, whether it is in the sorted `index`."""
    if not len(index):
        return np.zeros(len(values), dtype=bool)
    # Searching without the last element keeps the position within the index: a value above all others gets the position
    # of the last element, and then differs from it unless they are equal.
    return index[np.searchsorted(index[:-1], values)] == values


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
