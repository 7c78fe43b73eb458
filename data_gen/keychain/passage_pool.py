"""The passages that fill prompts: any number of them, each tokenised once, drawn at random or by length at no cost.

A passage is its title, a newline and its text. On disk: the texts in one file, and beside it arrays of where each
begins, its length in tokens, its digest and its sentence ends. A process maps them; so many processes share one copy,
and the time to draw a passage does not depend on how many there are.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from data_gen.keychain.sentence_ends import sentence_ends
from data_gen.progress import progress
from data_gen.store import write_atomically

ENDING = "\n\n"
"""Follows every passage in a prompt, and is counted with it."""
_BATCH = 1024


class HaystackError(ValueError):
    """A haystack that cannot be used; the message says what to do."""


def body(title: str, text: str) -> str:
    """A passage as it stands in a prompt, below its heading."""
    return f"{title.strip()}\n{text.strip()}" if title.strip() else text.strip()


def digest64(text: str) -> int:
    """64 bits of a text, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "little")


def build(folder: Path, bodies: Iterable[str], tokenizer: Any) -> int:
    """Write a haystack of the different texts among `bodies`; returns how many. `tokenizer`: a `tokenizers.Tokenizer`.

    A folder in which one is complete is left as it is.
    """
    seen: set[int] = set()
    starts, tokens, digests = array("q", [0]), array("i"), array("Q")
    ends, first_end = array("i"), array("q", [0])

    def new() -> Iterator[str]:
        for text in bodies:
            key = digest64(text)
            if key not in seen:
                seen.add(key)
                digests.append(key)
                yield text

    def written() -> Iterator[bytes]:
        with progress("haystack", None, "passages") as advance:
            for texts in _batches(new()):
                counted = tokenizer.encode_batch_fast([text + ENDING for text in texts], add_special_tokens=False)
                for text, encoding in zip(texts, counted, strict=True):
                    data = text.encode("utf-8", "replace")
                    starts.append(starts[-1] + len(data))
                    tokens.append(len(encoding))
                    ends.extend(sentence_ends(text) if text.isascii() else _byte_ends(text))
                    first_end.append(len(ends))
                    yield data
                advance(len(texts))

    if (folder / "haystack.json").exists():
        return int(json.loads((folder / "haystack.json").read_text())["passages"])
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "texts.bin", written())
    arrays = {"starts": starts, "tokens": tokens, "digests": digests, "ends": ends, "first_end": first_end}
    for name, values in arrays.items():
        _save(folder / f"{name}.npy", np.asarray(values))
    _save(folder / "by_tokens.npy", np.argsort(np.asarray(tokens), kind="stable"))
    _save(folder / "by_digest.npy", np.argsort(np.asarray(digests), kind="stable"))
    summary = {"passages": len(tokens), "tokens": int(np.sum(np.asarray(tokens)))}
    write_atomically(folder / "haystack.json", [json.dumps(summary).encode()])
    return len(tokens)


class Haystack:
    """The passages of a folder that `build` has written. `len` is their number; `tokens` their lengths with `ENDING`.

    Raises HaystackError when there is none.
    """

    def __init__(self, folder: Path):
        if not (folder / "haystack.json").exists():
            raise HaystackError(f"{folder} has no complete haystack; run the stage haystack first")
        names = ("starts", "tokens", "digests", "ends", "first_end", "by_tokens", "by_digest")
        # as plain arrays over the mapped files: slicing a memmap costs a microsecond
        self._arrays = {name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in names}
        mapped = np.memmap(folder / "texts.bin", dtype=np.uint8, mode="r") if len(self) else np.zeros(0, np.uint8)
        self._texts = np.asarray(mapped)
        self.tokens = self._arrays["tokens"]
        self._sorted_tokens = self.tokens[self._arrays["by_tokens"]]
        self._sorted_digests = self._arrays["digests"][self._arrays["by_digest"]]
        self.total_tokens = int(self._sorted_tokens.sum(dtype=np.int64))

    def __len__(self) -> int:
        return len(self._arrays["tokens"])

    def raw(self, passage: int) -> bytes:
        """A passage's text as UTF-8."""
        starts = self._arrays["starts"]
        return self._texts[starts[passage] : starts[passage + 1]].tobytes()

    def ends(self, passage: int) -> np.ndarray:
        """Positions in `raw(passage)` at which a sentence ends and another follows."""
        first = self._arrays["first_end"]
        return self._arrays["ends"][first[passage] : first[passage + 1]]

    def find(self, text: str) -> int:
        """The number of the passage with this text. Raises HaystackError when there is none."""
        at = int(np.searchsorted(self._sorted_digests, np.uint64(digest64(text))))
        if at == len(self) or self._sorted_digests[at] != digest64(text):
            raise HaystackError(
                f"the haystack has no passage {text[:80]!r}; it was made from other files: build it anew"
            )
        return int(self._arrays["by_digest"][at])

    def of_length(self, low: int, high: int) -> np.ndarray:
        """Numbers of the passages of `low` to `high` tokens, shortest first."""
        bounds = np.array([low, high + 1], dtype=self._sorted_tokens.dtype)  # of another type, all would be converted
        first, last = np.searchsorted(self._sorted_tokens, bounds)
        return self._arrays["by_tokens"][first:last]


def _save(path: Path, values: np.ndarray) -> None:
    """Write an array, and see it on the disk."""
    with path.open("wb") as file:
        np.save(file, values)
        file.flush()
        os.fsync(file.fileno())


def _byte_ends(text: str) -> list[int]:
    """Sentence ends as positions in the text's UTF-8."""
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
