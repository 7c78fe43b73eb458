"""Log every rollout as a line of JSON with all parts of its reward, and each prompt once.

verl writes the full prompt next to each of its n rollouts, which at 64K tokens and n = 8 is gigabytes a step, and none
of the reward's parts. Here `prompts.jsonl` holds each prompt once for the whole run, and `<step>.jsonl` refers to it by
a hash of its text.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from verl_longrl.data.jsonl import append_lines, drop_partial_line, encode_line, warn_of_damage
from verl_longrl.trainer.rollout_key import RolloutKey

KEY_BYTES = 8
_BEGINNING = re.compile(rb'\{"prompt": "([0-9a-f]{%d})"' % (2 * KEY_BYTES))
_END = b'"}\n'


class LoggedPrompt(NamedTuple):
    """A prompt's token ids, and its row's `reward_model` and `extra_info`."""

    tokens: Any
    reward_model: Mapping[str, Any]
    extra_info: Mapping[str, Any]


class LoggedRollouts(NamedTuple):
    """prompts: uid -> prompt. keys, responses (token ids), scores (flat score dictionaries): one per rollout."""

    prompts: Mapping[str, LoggedPrompt]
    keys: Sequence[RolloutKey]
    responses: Sequence[Any]
    scores: Sequence[Mapping[str, Any]]


class RolloutLog:
    """Writer of `<folder>/prompts.jsonl` and `<folder>/<step>.jsonl`; safe to reopen after a kill.

    Memory holds 8 bytes per stored prompt, its key. A prompt whose line is damaged counts as not stored. All methods
    raise OSError where the disk refuses, and then leave complete lines only.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.prompts = folder / "prompts.jsonl"
        drop_partial_line(self.prompts)
        self._known = _keys(self.prompts)

    def add_prompt(self, text: str, about: Mapping[str, Any]) -> str:
        """Store a prompt and facts about it, unless it is stored already; return the key that rollouts refer to."""
        digest = hashlib.blake2b(text.encode(), digest_size=KEY_BYTES)
        key, number = digest.hexdigest(), int.from_bytes(digest.digest())
        # `_known` is sorted.
        at = bisect_left(self._known, number)
        if at == len(self._known) or self._known[at] != number:
            append_lines(self.prompts, encode_line({"prompt": key, **about, "text": text}))
            self._known.insert(at, number)
        return key

    def write_rollouts(self, step: int, rollouts: LoggedRollouts, decode: Callable[..., str]) -> None:
        """Write the rollouts of a step, and its new prompts. decode: token ids -> text."""
        prompt_key_of: dict[str, str] = {}
        for uid, prompt in rollouts.prompts.items():
            info = prompt.extra_info
            about = {
                "index": info.get("index"),
                "ground_truth": prompt.reward_model.get("ground_truth"),
                "ref_chunks": info.get("ref_chunks"),
                "difficulty": info.get("difficulty"),
                "prompt_tokens": len(prompt.tokens),
            }
            prompt_key_of[uid] = self.add_prompt(decode(prompt.tokens), about)
        rows: list[dict[str, Any]] = []
        for key, response, score in zip(rollouts.keys, rollouts.responses, rollouts.scores, strict=True):
            row = {
                "uid": key.uid,
                "rollout": key.session,
                "prompt": prompt_key_of[key.uid],
                "response": decode(response, skip_special_tokens=True),
            }
            # `own_parts` is a text of JSON, because scorers of different tasks measure different parts.
            rows.append({**row, **score, "own_parts": json.loads(score["own_parts"])})
        self.write_step(step, sorted(rows, key=lambda row: (row["uid"], row["rollout"])))

    def write_step(self, step: int, rows: Sequence[Mapping[str, Any]]) -> Path:
        """Write the rollouts of one step, and replace what an interrupted run left of the same step."""
        path = self.folder / f"{step}.jsonl"
        aside = path.with_suffix(".partial")
        try:
            # The file gets its name when it is complete, so readers see all rollouts of a step or none.
            with aside.open("wb") as handle:
                handle.writelines(encode_line({"step": step, **row}) for row in rows)
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
        return path


def _keys(prompts: Path) -> array[int]:
    """The keys of the prompts in prompts.jsonl, as numbers in ascending order.

    The texts are not parsed, since a file may have gigabytes. Damage shows at a line's two ends, as NUL bytes, as a
    second beginning within the line, and as bytes that are not UTF-8.
    """
    keys: array[int] = array("Q")
    damaged = []
    if prompts.is_file():
        with prompts.open("rb") as handle:
            for number, text in enumerate(handle, 1):
                # A second beginning within a line: two lines of which the first lost its end.
                beginning = _BEGINNING.match(text)
                whole = text.endswith(_END) and b"\0" not in text and not _BEGINNING.search(text, 1)
                if beginning is not None and whole and _is_utf8(text):
                    keys.append(int(beginning[1], 16))
                else:
                    damaged.append(number)
    warn_of_damage(prompts, damaged)
    if keys:
        # In place: a sorted list of Python integers would be five times the size.
        np.frombuffer(keys, dtype=np.uint64).sort()
    return keys


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
