"""Every rollout as a line of JSON with all parts of its reward; each long prompt written once.

verl writes the full prompt beside each of its n rollouts, at 64K tokens and n = 8 gigabytes a step, and none of
the reward's parts. Here `prompts.jsonl` holds each prompt once for the whole run and `<step>.jsonl` refers to it by
a hash of its text.
"""

import hashlib
import os
import re
from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from verl_longrl.data.jsonl import append_lines, drop_partial_line, encode_line, warn_of_damage

KEY_BYTES = 8
_BEGINNING = re.compile(rb'\{"prompt": "([0-9a-f]{%d})"' % (2 * KEY_BYTES))
_END = b'"}\n'


class RolloutLog:
    """Writer of `<folder>/prompts.jsonl` and `<folder>/<step>.jsonl`; safe to reopen after a kill.

    Of a prompt that is stored, memory holds its key alone, in 8 bytes. One whose line is damaged is not stored. Both
    methods raise OSError where the disk refuses, and then leave the files as they were.
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
            append_lines(self.prompts, encode_line({"prompt": key, **about, "text": text}))
            self._known.insert(at, number)
        return key

    def write_step(self, step: int, rows: Sequence[Mapping[str, Any]]) -> Path:
        """Write the rollouts of one step, replacing what an interrupted run left of the same step."""
        path = self.folder / f"{step}.jsonl"
        aside = path.with_suffix(".partial")
        try:
            with aside.open("wb") as handle:
                handle.writelines(encode_line({"step": step, **row}) for row in rows)
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
        return path


def _keys(prompts: Path) -> "array[int]":
    """The keys of the prompts in prompts.jsonl, as numbers in ascending order. Their texts are not parsed: damage shows
    at a line's two ends, in NUL bytes, in a second beginning, and in bytes that are no UTF-8."""
    keys: array[int] = array("Q")
    damaged = []
    if prompts.is_file():
        with prompts.open("rb") as handle:
            for number, text in enumerate(handle, 1):
                found = _BEGINNING.match(text)
                whole = text.endswith(_END) and b"\0" not in text and not _BEGINNING.search(text, 1)
                if found is not None and whole and _is_utf8(text):
                    keys.append(int(found[1], 16))
                else:
                    damaged.append(number)
    warn_of_damage(prompts, damaged)
    if keys:
        np.frombuffer(keys, dtype=np.uint64).sort()  # in place: a sorted list would be five times the size
    return keys


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
