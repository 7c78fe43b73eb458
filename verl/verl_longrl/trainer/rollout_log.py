"""Every rollout as a line of JSON with all parts of its reward; each long prompt written once.

Upstream writes the full prompt beside each of its n rollouts, at 64K tokens and n = 8 gigabytes a step, and none of
the reward's parts. Here `prompts.jsonl` holds each prompt once for the whole run and `<step>.jsonl` refers to it by
a hash of its text.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


class RolloutLog:
    """Writer of `<folder>/prompts.jsonl` and `<folder>/<step>.jsonl`; safe to reopen after a kill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.prompts = folder / "prompts.jsonl"
        drop_partial_line(self.prompts)
        self._known = {row["prompt"] for row in read_jsonl(self.prompts)}

    def add_prompt(self, text: str, about: Mapping[str, Any]) -> str:
        """Store a prompt and what is known of it, unless it is there already; return the key rollouts refer to."""
        key = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        if key not in self._known:
            self._known.add(key)
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
    if not path.is_file():
        return []
    *whole, _partial = path.read_text().split("\n")  # not splitlines: documents hold U+2028 and its like
    return [json.loads(line) for line in whole]


def drop_partial_line(path: Path) -> None:
    """Cut off what a kill left behind the last whole line, so that the file can be appended to."""
    if path.is_file():
        with path.open("r+b") as handle:
            handle.truncate(handle.read().rfind(b"\n") + 1)


def _dump(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON-serialisable: {value!r}")
