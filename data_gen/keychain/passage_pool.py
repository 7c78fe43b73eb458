"""The haystack: any number of passages on disk, each tokenised once, to be drawn at random or by length.

A passage is its title, a newline and its text. On disk there is one file of texts, and arrays with the start of each
passage, its length in tokens, its digest and its sentence ends. Processes map these files, so all of them share one
copy in memory, and the time to draw a passage does not depend on the number of passages.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from verl_longrl.data.progress import progress_bar

from data_gen.keychain.sentence_ends import sentence_ends
from data_gen.store import write_atomically

ENDING = "\n\n"
"""The text after every passage in a prompt, counted as part of the passage."""
_BATCH = 1024


class HaystackError(ValueError):
    """A haystack that cannot be used; the message says what to do."""


def passage_body(title: str, text: str) -> str:
    """A passage as prompts show it below its heading."""
    return f"{title.strip()}\n{text.strip()}" if title.strip() else text.strip()


def digest64(text: str) -> int:
    """64 bits of a text, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "little")


class PassageMeasure:
    """Measures passages as prompts show them. `tokenizer`: a `tokenizers.Tokenizer`."""

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer

    def tokens(self, texts: list[str]) -> list[int]:
        """Tokens of each passage, with what follows it in a prompt."""
        return count_tokens(self.tokenizer, [text + ENDING for text in texts])

    def arrays(self) -> dict[str, np.ndarray]:
        """Further arrays about the passages that were measured, in their order, to be stored under these names."""
        return {}


def count_tokens(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    """Tokens of each text by itself. `tokenizer`: a `tokenizers.Tokenizer`."""
    return [len(encoding) for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


def build_haystack(folder: Path, bodies: Iterable[str], measure: PassageMeasure) -> int:
    """Write a haystack of the different texts among `bodies`; returns their number.

    A folder that has a complete haystack is left unchanged.
    """
    seen: set[int] = set()
    # starts[n] is the first byte of passage n in texts.bin; its sentence ends are ends[first_end[n] : first_end[n +
    # 1]]. Typed arrays, because a haystack may have tens of millions of passages and lists would take 10 times the
    # memory.
    starts, tokens, digests = array("q", [0]), array("i"), array("Q")
    ends, first_end = array("i"), array("q", [0])

    def without_duplicates() -> Iterator[str]:
        for text in bodies:
            key = digest64(text)
            if key not in seen:
                seen.add(key)
                digests.append(key)
                yield text

    def tokenised_texts() -> Iterator[bytes]:
        with progress_bar("haystack", None, "passages") as advance:
            for texts in _batches(without_duplicates()):
                for text, count in zip(texts, measure.tokens(texts), strict=True):
                    data = text.encode("utf-8", "replace")
                    starts.append(starts[-1] + len(data))
                    tokens.append(count)
                    ends.extend(sentence_ends(text) if text.isascii() else _byte_ends(text))
                    first_end.append(len(ends))
                    yield data
                advance(len(texts))

    if (folder / "haystack.json").exists():
        return int(json.loads((folder / "haystack.json").read_text())["passages"])
    folder.mkdir(parents=True, exist_ok=True)
    # Writing the texts fills the arrays as a side effect, so this comes first; haystack.json, which marks the haystack
    # as complete, comes last.
    write_atomically(folder / "texts.bin", tokenised_texts())
    arrays = {"starts": starts, "tokens": tokens, "digests": digests, "ends": ends, "first_end": first_end}
    for name, values in {**arrays, **measure.arrays()}.items():
        _save(folder / f"{name}.npy", np.asarray(values))
    _save(folder / "by_tokens.npy", np.argsort(np.asarray(tokens), kind="stable"))
    _save(folder / "by_digest.npy", np.argsort(np.asarray(digests), kind="stable"))
    summary = {"passages": len(tokens), "tokens": int(np.sum(np.asarray(tokens)))}
    write_atomically(folder / "haystack.json", [json.dumps(summary).encode()])
    return len(tokens)


class Haystack:
    """The passages in a folder that `build_haystack` has written. `len` is their number; `tokens` their lengths with
    `ENDING`.

    Raises HaystackError when the folder has no complete haystack.
    """

    def __init__(self, folder: Path):
        if not (folder / "haystack.json").exists():
            raise HaystackError(f"{folder} has no complete haystack. Fix: run stage haystack first")
        names = ("starts", "tokens", "digests", "ends", "first_end", "by_tokens", "by_digest")
        # Plain arrays over the mapped files, because slicing a memmap object costs a microsecond each time.
        self._arrays = {name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in names}
        mapped = np.memmap(folder / "texts.bin", dtype=np.uint8, mode="r") if len(self) else np.zeros(0, np.uint8)
        self._texts = np.asarray(mapped)
        self._set_sizes(self._arrays["tokens"], self._arrays["by_tokens"])
        self._sorted_digests = self._arrays["digests"][self._arrays["by_digest"]]

    def _set_sizes(self, tokens: np.ndarray, order: np.ndarray) -> None:
        """Set the sizes by which passages are drawn. order: the passages, smallest first."""
        self.tokens, self._by_tokens, self._sorted_tokens = tokens, order, tokens[order]
        self.total_tokens = int(self._sorted_tokens.sum(dtype=np.int64))

    def __len__(self) -> int:
        return len(self._arrays["tokens"])

    def raw(self, passage: int) -> bytes:
        """A passage's text as UTF-8."""
        starts = self._arrays["starts"]
        return self._texts[starts[passage] : starts[passage + 1]].tobytes()

    def ends(self, passage: int) -> np.ndarray:
        """Positions in `raw(passage)` at which a sentence ends and another one follows."""
        first = self._arrays["first_end"]
        return self._arrays["ends"][first[passage] : first[passage + 1]]

    def find(self, text: str) -> int:
        """The number of the passage with this text. Raises HaystackError if no passage has it."""
        at = int(np.searchsorted(self._sorted_digests, np.uint64(digest64(text))))
        if at == len(self) or self._sorted_digests[at] != digest64(text):
            raise HaystackError(
                f"the haystack has no passage {text[:80]!r}: it was made from other files. Fix: rerun with "
                "--redo haystack"
            )
        return int(self._arrays["by_digest"][at])

    def of_length(self, low: int, high: int) -> np.ndarray:
        """Numbers of the passages of `low` to `high` tokens, shortest first."""
        # With bounds of another type, searchsorted would convert the whole array first.
        bounds = np.array([low, high + 1], dtype=self._sorted_tokens.dtype)
        first, last = np.searchsorted(self._sorted_tokens, bounds)
        return self._by_tokens[first:last]


def _save(path: Path, values: np.ndarray) -> None:
    """Write an array and wait until it is on disk."""
    with path.open("wb") as file:
        np.save(file, values)
        file.flush()
        os.fsync(file.fileno())


def _byte_ends(text: str) -> list[int]:
    """Sentence ends as byte positions in the text's UTF-8."""
    ends, at, position = [], 0, 0
    for end in sentence_ends(text):
        at += len(text[position:end].encode("utf-8", "replace"))
        position = end
        ends.append(at)
    return ends


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    texts = iter(texts)
    while batch := list(islice(texts, _BATCH)):
        yield batch
