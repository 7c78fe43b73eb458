"""Every rollout as a line of JSON with all parts of its reward; each long prompt written once.

Upstream writes the full prompt beside each of its n rollouts, at 64K tokens and n = 8 gigabytes a step, and none of
the reward's parts. Here `prompts.jsonl` holds each prompt once for the whole run and `<step>.jsonl` refers to it by
a hash of its text.
"""

import hashlib
import json
import os
import re
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

KEY_BYTES = 8
_BEGINNING = re.compile(rb'\{"prompt": "([0-9a-f]{%d})"' % (2 * KEY_BYTES))
_BLOCK = 1 << 16


class RolloutLog:
    """Writer of `<folder>/prompts.jsonl` and `<folder>/<step>.jsonl`; safe to reopen after a kill.

    Of a prompt that is stored, memory holds its key alone, in 8 bytes. Raises ValueError when prompts.jsonl holds a
    line that is not of a prompt.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.prompts = folder / "prompts.jsonl"
        drop_partial_line(self.prompts)
        self._known = _keys(self.prompts)

    def add_prompt(self, text: str, about: Mapping[str, Any]) -> str:
        """Store a prompt and what is known of it, unless it is there already; return the key rollouts refer to."""
        digest = hashlib.blake2b(text.encode(), digest_size=KEY_BYTES)
        key, number = digest.hexdigest(), int.from_bytes(digest.digest())
        at = bisect_left(self._known, number)
        if at == len(self._known) or self._known[at] != number:
            self._known.insert(at, number)
            with self.prompts.open("a") as handle:
                handle.write(_dump({"prompt": key, **about, "text": text}) + "\n")
        return key

    def write_step(self, step: int, rows: Sequence[Mapping[str, Any]]) -> Path:
        """Write the rollouts of one step, replacing what an interrupted run left of the same step."""
        path = self.folder / f"{step}.jsonl"
        aside = path.with_suffix(".partial")
        aside.write_text("".join(_dump({"step": step, **row}) + "\n" for row in rows))
        os.replace(aside, path)
        return path


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file ([] if absent); a last line cut off by a kill is left out."""
    return list(iterate_jsonl(path))


def iterate_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """As `read_jsonl`, with one row in memory at a time."""
    if path.is_file():
        with path.open("rb") as handle:
            for line in handle:  # ends at \n alone, not at U+2028 and its like, which documents hold
                if line.endswith(b"\n"):
                    yield json.loads(line)


def drop_partial_line(path: Path) -> None:
    """Cut off what a kill left behind the last whole line, so that the file can be appended to."""
    if path.is_file():
        with path.open("r+b") as handle:
            handle.truncate(_end_of_last_line(handle))


def _end_of_last_line(handle: IO[bytes]) -> int:
    """Where the last whole line of a file ends, looked for from the file's end."""
    end = handle.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _BLOCK)
        handle.seek(start)
        newline = handle.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _keys(prompts: Path) -> "array[int]":
    """The keys that lead the lines of prompts.jsonl, as numbers in ascending order; the texts are passed over."""
    keys: array[int] = array("Q")
    if prompts.is_file():
        with prompts.open("rb") as handle:
            number = 0
            while line := handle.readline(_BLOCK):
                number += 1
                found = _BEGINNING.match(line)
                if found is None:
                    raise ValueError(
                        f"line {number} of {prompts} is not of a prompt: it begins with {line[:40]!r}, expected "
                        f'{{"prompt": "<{2 * KEY_BYTES} hex digits>"; move the file away, and it is begun anew'
                    )
                keys.append(int(found[1], 16))
                while line and not line.endswith(b"\n"):
                    line = handle.readline(_BLOCK)
    if keys:
        np.frombuffer(keys, dtype=np.uint64).sort()  # in place: a sorted list would be five times the size
    return keys


def _dump(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON-serialisable: {value!r}")
