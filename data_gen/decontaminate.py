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
        for text in (text for file in files for record in read_texts(Path(file)) for text in record):
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


class MarkedNgrams:
    """Which n-grams of some texts other texts have, too; those are given one by one, and only marks are kept.

    An n-gram is `n` words, or all words of a text of 5 to n - 1. Those of fewer than 8 are only found where they are
    a whole text. Takes 9 bytes for each different n-gram.

    Args:
        texts: (text, frame) pairs; n-grams of the frame, such as a prompt's instructions, are left out.
        n: words of an n-gram.
    """

    def __init__(self, texts: Iterable[tuple[str, str]], n: int = 13):
        self.n = n
        found: dict[int, list[np.ndarray]] = defaultdict(list)
        for text, frame in texts:
            hashed = _hash_words(words(text))
            if (length := min(len(hashed), n)) >= MIN_WORDS:
                found[length].append(self._ngrams(hashed, length, frame))
        self._index = {length: np.unique(np.concatenate(hashes)) for length, hashes in found.items()}
        self._marks = {length: np.zeros(len(index), dtype=bool) for length, index in self._index.items()}

    def mark(self, texts: Iterable[str]) -> bool:
        """Mark the n-grams that these texts have. Returns whether there are any."""
        found = False
        for text in texts:
            hashed = _hash_words(words(text))
            for length, index in self._index.items():
                if len(hashed) == length or (length >= MIN_PART and len(hashed) > length):
                    ngrams = hash_ngrams(hashed, length)
                    hits = _contains(index, ngrams)
                    self._marks[length][np.searchsorted(index, ngrams[hits])] = True
                    found = found or bool(hits.any())
        return found

    def marked(self, text: str, frame: str = "") -> tuple[float | None, str]:
        """The share of a text's n-grams that are marked, and the first of them in words.

        text, frame: one of those that this was made of. The share is None for a text that is too short.
        """
        spelled = words(text)
        hashed = _hash_words(spelled)
        length = min(len(hashed), self.n)
        own = self._ngrams(hashed, length, frame) if length >= MIN_WORDS else _SEPARATOR[:0]
        if not len(own):
            return None, ""
        index = self._index[length]
        repeated = own[self._marks[length][np.searchsorted(index, own)]]
        if not len(repeated):
            return 0.0, ""
        first = int(np.flatnonzero(np.isin(hash_ngrams(hashed, length), repeated))[0])
        return len(repeated) / len(own), " ".join(spelled[first : first + length])

    @staticmethod
    def _ngrams(hashed: np.ndarray, length: int, frame: str) -> np.ndarray:
        """The different n-grams of a text that its frame has not."""
        return np.setdiff1d(hash_ngrams(hashed, length), hash_ngrams(_hash_words(words(frame)), length))


def read_texts(file: Path) -> Iterator[list[str]]:
    """All texts of each record of a file. Raises CorpusError."""
    for record in read_records(file):
        if isinstance(record, Exception):
            raise CorpusError(str(record))
        yield [*_strings(record)]


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


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
