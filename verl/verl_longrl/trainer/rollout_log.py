"""Log every rollout as a line of JSON with all parts of its reward, and each prompt once.

verl writes the full prompt next to each of its n rollouts, which at 64K tokens and n = 8 is gigabytes a step, and none
of the reward's parts. Here a run's folder `rollouts/` has:

    train/STEP.jsonl      the rollouts that a step was trained on; a row refers to its prompt by a hash of the text
    val/STEP.jsonl        the rollouts of the validation after a step
    filtered/STEP.jsonl   rollouts of groups that the group filter replaced, of a bounded number of groups
    index.jsonl           a short row for each rollout, with its place: {"split": "train", "step": 3, "at": BYTE, ...}
    prompts.jsonl         a row for each prompt: its place, task, question, gold answer, evidence and data row
    prompts/000.jsonl     the texts of the prompts, in parts of at most 256 MiB

A row of an index is written after what it points to is on the disk, so a row that is there can be trusted, and both
indexes are small: nobody has to read texts to find one. `recorded_run.py` reads all of it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson

from verl_longrl.data.jsonl import append_lines, drop_partial_line, encode_line, iterate_jsonl, truncate_after
from verl_longrl.trainer.checkpoints import sync
from verl_longrl.trainer.rollout_key import RolloutKey

Split = Literal["train", "val", "filtered"]
SPLITS: tuple[Split, ...] = ("train", "val", "filtered")
INDEX, PROMPTS, PROMPT_TEXTS = "index.jsonl", "prompts.jsonl", "prompts"
"""Names in the folder `rollouts`: the index of rollouts, the index of prompts, and the folder of the prompts' texts."""
KEY_BYTES = 8
PART_BYTES = 256 << 20
"""Bytes of a file of texts. A longer text has a file of its own."""
JSON_SCORES = ("own_parts", "cited_ids", "judge")
"""Entries of a score dictionary that are JSON as text, because their form differs by task."""
INDEXED = (
    *("prompt", "rollout", "task", "status", "score", "answer", "context", "recall", "precision", "format"),
    *("cited", "outside", "response_tokens", "finish_reason", "advantage", "logprob_gap", "seconds"),
)
"""Keys of a row of the index besides `split`, `step`, `group` (the number of the group within the file, from 0), and
the place of the rollout: `at` and `bytes`."""


class LoggedPrompt(NamedTuple):
    """A prompt's token ids, and its row's `reward_model` and `extra_info`."""

    tokens: Any
    reward_model: Mapping[str, Any]
    extra_info: Mapping[str, Any]


class LoggedRollouts(NamedTuple):
    """prompts: uid -> prompt. keys, responses (token ids), scores (flat score dictionaries) and measured (what the
    trainer knows of a rollout besides its score, such as its advantage): one per rollout."""

    prompts: Mapping[str, LoggedPrompt]
    keys: Sequence[RolloutKey]
    responses: Sequence[Any]
    scores: Sequence[Mapping[str, Any]]
    measured: Sequence[Mapping[str, Any]]


class RolloutLog:
    """Writer of a run's folder `rollouts`; safe to reopen after a kill.

    `add` keeps the rollouts of a split until `write` puts them into a file, so readers see all of a step or none. All
    methods raise OSError where the disk refuses, and then leave complete lines only. One thread at a time may use it.

    Args:
        folder: created if it is missing.
        max_response_tokens: a response of this length was cut, and has the finish reason "length" instead of "stop".
        part_bytes: a file of prompt texts is continued up to this size.
    """

    def __init__(self, folder: Path, max_response_tokens: int | None = None, part_bytes: int = PART_BYTES) -> None:
        self.folder, self.prompts, self.index = folder, folder / PROMPTS, folder / INDEX
        self._limit, self._part_bytes = max_response_tokens, part_bytes
        folder.mkdir(parents=True, exist_ok=True)
        self._rows: dict[Split, list[dict[str, Any]]] = {}
        self._incomplete: set[Split] = set()
        for path in (self.prompts, self.index):
            drop_partial_line(path)
        self._known, self._part = self._stored_prompts()

    # ---- prompts ----------------------------------------------------------------------------------------------

    def add_prompts(self, prompts: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
        """Store those of these prompts that are not stored yet; return the keys that rollouts refer to.

        prompts: (text, facts about it) of each.
        """
        keys = [prompt_key(text) for text, _ in prompts]
        new: dict[str, dict[str, Any]] = {}
        for key, (text, about) in zip(keys, prompts, strict=True):
            if key not in self._known and key not in new:
                new[key] = {"prompt": key, **self._append_text(key, text), **about}
        if new:
            for part in {row["part"] for row in new.values()}:
                sync(part_path(self.folder, part))
            append_lines(self.prompts, b"".join(map(encode_line, new.values())))
            sync(self.prompts)
            self._known |= new.keys()
        return keys

    def _append_text(self, key: str, text: str) -> dict[str, int]:
        line = encode_line({"prompt": key, "text": text})
        path = part_path(self.folder, self._part)
        path.parent.mkdir(exist_ok=True)
        at = path.stat().st_size if path.exists() else 0
        if at and at + len(line) > self._part_bytes:
            self._part += 1
            path, at = part_path(self.folder, self._part), 0
        append_lines(path, line)
        return {"part": self._part, "at": at, "bytes": len(line)}

    def _stored_prompts(self) -> tuple[set[str], int]:
        """The keys of the prompts whose texts are there, and the part to continue, without an incomplete last line."""
        ends: dict[int, int] = {}
        sizes = {part: path.stat().st_size for part, path in enumerate_parts(self.folder)}
        known: set[str] = set()
        for row in iterate_jsonl(self.prompts, ("prompt",)):
            # Rows of earlier versions have their text in them.
            if "part" in row:
                part, end = row["part"], row["at"] + row["bytes"]
                # The text is missing where a file was cut short, as by a power failure.
                if end > sizes.get(part, 0):
                    known.discard(row["prompt"])
                    continue
                ends[part] = max(ends.get(part, 0), end)
            known.add(row["prompt"])
        last = max(sizes, default=0)
        if sizes.get(last, 0) > ends.get(last, 0):
            # A kill left a text without its row. A whole text stays, in case it is the row that was lost.
            drop_partial_line(part_path(self.folder, last))
        return known, last

    # ---- rollouts ---------------------------------------------------------------------------------------------

    def add(self, split: Split, rollouts: LoggedRollouts, decode: Callable[..., str]) -> None:
        """Keep rollouts for the next `write` of a split, and store their prompts. decode: token ids -> text."""
        try:
            rows = self._encode(rollouts, decode)
        except BaseException:
            self.give_up(split)
            raise
        self._rows.setdefault(split, []).extend(rows)

    def _encode(self, rollouts: LoggedRollouts, decode: Callable[..., str]) -> list[dict[str, Any]]:
        prompts = [(decode(prompt.tokens), _describe_prompt(prompt)) for prompt in rollouts.prompts.values()]
        key_of = dict(zip(rollouts.prompts, self.add_prompts(prompts), strict=True))
        tokens_of = {uid: len(prompt.tokens) for uid, prompt in rollouts.prompts.items()}
        rows: list[dict[str, Any]] = []
        columns = (rollouts.keys, rollouts.responses, rollouts.scores, rollouts.measured)
        for key, response, score, measured in zip(*columns, strict=True):
            decoded = {name: json.loads(score[name]) for name in JSON_SCORES if name in score}
            rows.append(
                {
                    **{"uid": key.uid, "rollout": key.session, "prompt": key_of[key.uid]},
                    **{"prompt_tokens": tokens_of[key.uid], "response_tokens": len(response)},
                    "finish_reason": "length" if len(response) == self._limit else "stop",
                    **{**measured, **score, **decoded},
                    "response": decode(response, skip_special_tokens=True),
                }
            )
        return rows

    def give_up(self, split: Split) -> None:
        """Some rollouts of a split are lost, so the next `write` must not write the others."""
        self._incomplete.add(split)

    def discard(self, split: Split) -> None:
        """Forget the rollouts that were added to a split and not written."""
        self._rows.pop(split, None)
        self._incomplete.discard(split)

    def write(self, split: Split, step: int) -> None:
        """Write the rollouts that were added to a split as those of a step, sorted by prompt.

        No file if there are none, or if some of them could not be added.
        """
        rows = None if split in self._incomplete else self._rows.get(split)
        self.discard(split)
        if rows:
            self.write_step(split, step, sorted(rows, key=lambda row: (row["uid"], row["rollout"])))

    def write_step(self, split: Split, step: int, rows: Sequence[Mapping[str, Any]]) -> Path:
        """Write the rollouts of one step and add them to the index. Replaces what an interrupted run left of it."""
        path = step_path(self.folder, split, step)
        path.parent.mkdir(exist_ok=True)
        aside = path.with_suffix(".partial")
        index, at, groups = [], 0, dict.fromkeys(row.get("uid") for row in rows)
        group_of = {uid: number for number, uid in enumerate(groups)}
        try:
            # The file gets its name when it is complete, so readers see all rollouts of a step or none.
            with aside.open("wb") as handle:
                for row in rows:
                    line = encode_line({"step": step, **row})
                    handle.write(line)
                    place = {"split": split, "step": step, "at": at, "bytes": len(line)}
                    short = {name: _shorten(row[name]) for name in INDEXED if name in row}
                    index.append(_encode_short({**place, "group": group_of[row.get("uid")], **short}))
                    at += len(line)
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(aside, path)
            try:
                append_lines(self.index, b"".join(index))
            except OSError:
                path.unlink()
                raise
            sync(self.index)
        finally:
            aside.unlink(missing_ok=True)
        return path

    def drop_after(self, step: int) -> None:
        """Drop the rollouts of steps that are about to be repeated; at step 0 those are all. Prompts stay."""
        truncate_after(self.index, lambda row: step > 0 and row.get("step", 0) <= step)
        for split in SPLITS:
            for number, path in step_files(self.folder, split).items():
                if number > step or step == 0:
                    path.unlink()


def prompt_key(text: str) -> str:
    """The key of a prompt: a hash of its text, as 16 hexadecimal digits."""
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=KEY_BYTES).hexdigest()


def step_path(folder: Path, split: Split, step: int) -> Path:
    """The file of a step's rollouts. folder: `rollouts` of a run."""
    return folder / split / f"{step}.jsonl"


def step_files(folder: Path, split: Split = "train") -> dict[int, Path]:
    """Step -> file of its rollouts, in order of steps. Runs of earlier versions have train/ in `rollouts` itself."""
    files = [*(folder.glob("[0-9]*.jsonl") if split == "train" else ()), *(folder / split).glob("[0-9]*.jsonl")]
    return dict(sorted((int(path.stem), path) for path in files if path.stem.isdigit()))


def part_path(folder: Path, part: int) -> Path:
    """A file of prompt texts."""
    return folder / PROMPT_TEXTS / f"{part:03}.jsonl"


def enumerate_parts(folder: Path) -> list[tuple[int, Path]]:
    """The files of prompt texts with their numbers, in order."""
    paths = (path for path in (folder / PROMPT_TEXTS).glob("[0-9]*.jsonl") if path.stem.isdigit())
    return sorted((int(path.stem), path) for path in paths)


def _describe_prompt(prompt: LoggedPrompt) -> dict[str, Any]:
    info, truth = prompt.extra_info, prompt.reward_model.get("ground_truth")
    names = ("task", "question", "ref_chunks", "num_chunks", "document", "difficulty", "index")
    place = {"file": info.get("data_file"), "row": info.get("data_row")}
    return {**{name: info.get(name) for name in names}, "ground_truth": truth, **place} | {
        "prompt_tokens": len(prompt.tokens)
    }


def _shorten(value: Any) -> Any:
    """A number with four digits after the point, which is enough to choose rollouts by."""
    return round(float(value), 4) if isinstance(value, float | np.floating) else value


def _encode_short(row: Mapping[str, Any]) -> bytes:
    """A row as a line without spaces. Null for NaN."""
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY)
