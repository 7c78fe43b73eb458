"""Plan a set before anything is sent: build its prompts, count their tokens, and apply the rule for too long ones.

The plan of a set is three files, from which a run resumes without building or counting again:

    rows.jsonl    one line per planned row: the row, with its messages as they are sent, and their tokens
    index.jsonl   where each row is in rows.jsonl, and its counts, so that no text is read before it is sent
    plan.json     the record: everything that decides what is asked and answered

Tokens are counted with the tokenizer and the chat template of the served model. A prompt that exceeds the window
together with its longest answer is never sent as it is: servers answer it with an error, or cut it silently.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import orjson
from verl_longrl.data.jsonl import encode_line
from verl_longrl.trainer.checkpoints import sync, write_atomic

from recipe.longrl.evaluation.errors import EvaluationError
from recipe.longrl.evaluation.log import digest
from recipe.longrl.evaluation.profiles import SetOptions
from recipe.longrl.evaluation.records import FollowUp, Row

ROWS, INDEX, RECORD, ANSWERS = "rows.jsonl", "index.jsonl", "plan.json", "answers.jsonl"
INDEXED = ("group", "request", "prompt_tokens", "max_tokens", "fit", "follow_up")
"""Fields of an entry of rows.jsonl that index.jsonl repeats, so that a run need not read the texts."""
Message = dict[str, str]
Fit = Literal["whole", "middle", "skip"]


class PlanError(EvaluationError):
    """A set cannot be run as it is; the message names row, tokens and limit, and has the fix."""


class ChatCounter:
    """Counts the tokens of messages with the served model's tokenizer and chat template.

    options: arguments of the template, such as {"enable_thinking": False}. Raises PlanError without a chat template.
    """

    def __init__(self, tokenizer: Any, options: Mapping[str, Any] | None = None) -> None:
        self.tokenizer, self._options = tokenizer, dict(options or {})
        if not getattr(tokenizer, "chat_template", None):
            name = getattr(tokenizer, "name_or_path", "")
            raise PlanError(f"tokenizer = {name}: no chat template. Fix: name the tokenizer of a chat model")

    def count(self, messages: list[Message]) -> int:
        """Tokens of the whole prompt, up to the position where the answer begins."""
        return len(self.encode(messages))

    def encode(self, messages: list[Message]) -> list[int]:
        """Token ids of the whole prompt."""
        continued = messages[-1]["role"] == "assistant"
        ids: list[int] = self.tokenizer.apply_chat_template(
            messages,
            add_generation_prompt=not continued,
            continue_final_message=continued,
            tokenize=True,
            return_dict=False,
            **self._options,
        )
        return ids

    def cut_middle(self, messages: list[Message], limit: int, tokens: int) -> tuple[list[Message], int] | None:
        """The messages with tokens removed from the middle of the longest one, and their count, at most `limit`.

        The same number of tokens remains at its beginning and at its end. None if the other messages leave no room.
        tokens: the count of the messages as they are.
        """
        longest = max(range(len(messages)), key=lambda at: len(messages[at]["content"]))
        text = messages[longest]["content"]

        def with_text(content: str) -> list[Message]:
            return [*messages[:longest], {**messages[longest], "content": content}, *messages[longest + 1 :]]

        others = self.count(with_text(""))
        kept = limit - others
        # Tokens may merge differently around the cut, so the result is counted, and the cut made wider if need be.
        while kept > 1:
            shorter = with_text(self._both_ends(text, kept // 2, max(1, tokens - others)))
            tokens_left = self.count(shorter)
            if tokens_left <= limit:
                return shorter, tokens_left
            kept -= tokens_left - limit
        return None

    def _both_ends(self, text: str, count: int, tokens: int) -> str:
        """The first and the last `count` tokens of a text of about `tokens`; little more of it is tokenised."""
        reach = len(text) * count * 11 // (10 * tokens) + 100
        while True:
            head, tail = self._token_spans(text[:reach]), self._token_spans(text[-reach:])
            if reach >= len(text) or min(len(head), len(tail)) > count:
                break
            reach *= 2
        return text[: head[count - 1][1]] + text[max(0, len(text) - reach) + tail[-count][0] :]

    def _token_spans(self, text: str) -> list[tuple[int, int]]:
        """Where each token begins and ends in a text, in characters."""
        if not self.tokenizer.is_fast:
            name = self.tokenizer.name_or_path
            raise PlanError(
                f"over_window = middle: {name} is not a fast tokenizer. Fix: over_window=skip, or another one"
            )
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        spans: list[tuple[int, int]] = encoded["offset_mapping"]
        return spans


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """A line of index.jsonl: a row without its texts."""

    id: str
    group: str
    """Rows with the same group share a document at the beginning of their prompts."""
    request: str
    """Digest of the messages as they are sent and of the longest answer."""
    prompt_tokens: int
    max_tokens: int
    fit: Fit
    follow_up: tuple[int, int]
    """Most prompt tokens and answer tokens of the second request; (0, 0) without one."""
    offset: int
    """Where the row begins in rows.jsonl, in bytes."""
    size: int


@dataclass(frozen=True)
class SetPlan:
    """A planned set in its folder."""

    folder: Path
    record: dict[str, Any]
    rows: list[PlannedRow]

    def request_key(self, request: str, sample: int) -> str:
        """The key of one answer: model, sampling and seed, messages and longest answer (`request`), sample number."""
        return digest([self._identity, request, sample])

    @cached_property
    def _identity(self) -> str:
        return digest([self.record[name] for name in ("model", "sampling", "seed")])

    @property
    def tokens(self) -> tuple[int, int]:
        """Prompt tokens and longest answers' tokens of all requests."""
        sent = [row for row in self.rows if row.fit != "skip"]
        repeats = int(self.record["repeats"])
        prompt = sum(row.prompt_tokens + row.follow_up[0] for row in sent)
        return repeats * prompt, repeats * sum(row.max_tokens + row.follow_up[1] for row in sent)

    @property
    def shared_tokens(self) -> int:
        """Prompt tokens that a server with a prefix cache computes: of each group its longest prompt, and all second
        requests."""
        longest: dict[str, int] = {}
        sent = [row for row in self.rows if row.fit != "skip"]
        for row in sent:
            longest[row.group] = max(longest.get(row.group, 0), row.prompt_tokens)
        return sum(longest.values()) + int(self.record["repeats"]) * sum(row.follow_up[0] for row in sent)


def messages_to_send(row: Row, answer_prefix: str) -> list[Message]:
    """The row's messages with its answer prefix where the set's options put it."""
    messages = [dict(message) for message in row.messages]
    if not row.answer_prefix or answer_prefix == "off":
        return messages
    if answer_prefix == "continue":
        return [*messages, {"role": "assistant", "content": row.answer_prefix.strip()}]
    messages[-1]["content"] += row.answer_prefix
    return messages


def follow_up_messages(follow_up: FollowUp, answer: str) -> list[Message]:
    """The messages of a row's second request. answer: the text of the first one."""
    return [{"role": "user", "content": f"{follow_up.before}{answer.strip()}{follow_up.after}"}]


def request_digest(messages: list[Message], max_tokens: int) -> str:
    """The part of an answer's key that says what is asked."""
    return digest([messages, max_tokens])


def prefix_group(row: Row, messages: list[Message]) -> str:
    """A name that rows of one document share: same cluster, and the same text in at least the first quarter.

    The compared text is the longest power of two of characters within the first half of the prompt.
    """
    text = "\n".join(message["content"] for message in messages)
    shared = 1 << max(0, (len(text) // 2).bit_length() - 1)
    return digest([row.cluster or row.id, text[:shared]])[:16]


def make_plan(
    folder: Path,
    rows: Iterator[Row],
    counter: ChatCounter,
    window: int,
    options: SetOptions,
    record: Mapping[str, Any],
    fix: str = "",
) -> SetPlan:
    """Plan the rows in `folder`, or return the plan that is there already if its record is the same.

    A plan with another record is replaced as long as it has no answers.

    record: everything else that decides the answers (model, sampling, seed, ...); checksums of the rows are added.
    fix: of rows over the window, if it is not that of the command line.
    Raises PlanError for rows over the window (policy `fail`), and for answers that were made with another record.
    """
    if (plan := _existing_plan(folder, record)) is not None:
        return plan
    folder.mkdir(parents=True, exist_ok=True)
    checksums = {"data": hashlib.sha256(), "prompts": hashlib.sha256()}
    too_long: list[str] = []
    with (folder / ROWS).open("wb") as file, (folder / INDEX).open("wb") as index:
        for number, row in enumerate(rows):
            if number == options.limit:
                break
            entry = _fit_row(row, counter, window, options)
            if entry["fit"] == "fail":
                total = f"{entry['prompt_tokens']} + {entry['max_tokens']}"
                too_long.append(f"row {row.id}: prompt + answer = {total} tokens, window {window}")
            checksums["data"].update(encode_line(asdict(row)))
            checksums["prompts"].update(entry["request"].encode())
            line = encode_line(entry)
            counts = {
                name: entry[name] for name in ("group", "request", "prompt_tokens", "max_tokens", "fit", "follow_up")
            }
            index.write(encode_line({"id": row.id, **counts, "offset": file.tell(), "size": len(line)}))
            file.write(line)
    if too_long:
        (folder / ROWS).unlink()
        (folder / INDEX).unlink()
        fix = fix or f"a larger --window, shorter lengths, or sets.{folder.name}.over_window=skip or middle"
        raise PlanError(f"{folder.name}: {too_long[0]}; {len(too_long)} such rows in all. Fix: {fix}")
    sync(folder / ROWS)
    sync(folder / INDEX)
    sums = {f"{name}_sha256": checksum.hexdigest() for name, checksum in checksums.items()}
    # The record is written last: where there is one, the rows are whole.
    write_atomic(folder / RECORD, json.dumps({**record, **sums}, indent=1) + "\n")
    return read_plan(folder)


def read_plan(folder: Path) -> SetPlan:
    """The plan in a folder. Raises PlanError where there is none, or its rows are not those of the record."""
    record = read_record(folder)
    try:
        with (folder / INDEX).open("rb") as index:
            rows = [PlannedRow(**orjson.loads(line)) for line in index]
        size, expected = (folder / ROWS).stat().st_size, sum(row.size for row in rows)
        if size != expected:
            raise ValueError(f"{ROWS} has {size} bytes, expected {expected}")
    except (OSError, ValueError, TypeError) as error:
        raise PlanError(f"{folder}: no readable plan ({error}). Fix: run it again, with another --out") from error
    if not rows:
        raise PlanError(f"{folder / ROWS}: no rows. Fix: options of the set that select some")
    return SetPlan(folder, record, rows)


def read_record(folder: Path) -> dict[str, Any]:
    """The record of the plan in a folder. Raises PlanError where there is none."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError) as error:
        raise PlanError(f"{folder}: no readable plan ({error}). Fix: run it again, with another --out") from error
    return record


def read_row(entry: Mapping[str, Any]) -> Row:
    """The row of an entry of rows.jsonl; its messages are those that were sent."""
    values = dict(entry["row"])
    values |= {name: tuple(values[name]) for name in ("messages", "closed_book", "evidence")}
    if follow_up := values.get("follow_up"):
        values["follow_up"] = FollowUp(**follow_up)
    return Row(**values)


def iterate_entries(folder: Path) -> Iterator[dict[str, Any]]:
    """The entries of rows.jsonl, one in memory at a time."""
    with (folder / ROWS).open("rb") as file:
        yield from map(orjson.loads, file)


def refuse_other_record(folder: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise PlanError unless `found` has every value of `expected`: answers of two records are never mixed."""
    if different := different_fields({name: found.get(name) for name in expected}, expected):
        name, (old, new) = next(iter(different.items()))
        raise PlanError(
            f"{folder}: {name} = {new!r}, but its answers were made with {old!r} ({len(different)} fields differ: "
            f"{', '.join(different)}). Fix: name another --out, or set the earlier values"
        )


def different_fields(first: Any, second: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """The values that differ between two records, by dotted path."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        different: dict[str, tuple[Any, Any]] = {}
        for name in sorted({*first, *second}):
            different |= different_fields(first.get(name), second.get(name), f"{path}.{name}" if path else name)
        return different
    return {} if first == second else {path: (first, second)}


def _existing_plan(folder: Path, record: Mapping[str, Any]) -> SetPlan | None:
    """The plan in a folder if it is of this record; None, with nothing left of it, if it has no answers."""
    answered = (folder / ANSWERS).exists()
    if (folder / RECORD).is_file():
        plan = read_plan(folder)
        if answered:
            refuse_other_record(folder, plan.record, record)
        if not different_fields({name: plan.record.get(name) for name in record}, record):
            return plan
        (folder / RECORD).unlink()
    elif answered:
        raise PlanError(f"{folder}: {ANSWERS} without {RECORD}. Fix: name another --out, or restore {RECORD}")
    return None


def _fit_row(row: Row, counter: ChatCounter, window: int, options: SetOptions) -> dict[str, Any]:
    """The row's entry in rows.jsonl. `fit` is "fail" for a row that the policy does not allow."""
    messages = messages_to_send(row, options.answer_prefix)
    max_tokens = options.max_tokens or row.max_tokens
    tokens = counter.count(messages)
    fit = "whole"
    if tokens + max_tokens > window:
        fit = options.over_window
        shorter = counter.cut_middle(messages, window - max_tokens, tokens) if fit == "middle" else None
        if shorter is not None:
            messages, tokens = shorter
        elif fit == "middle":
            fit = "fail"
    return {
        "row": asdict(replace(row, messages=tuple(messages))),
        "question": digest([row.messages, row.gold]),
        "prompt_tokens": tokens,
        "max_tokens": max_tokens,
        "fit": fit,
        "group": prefix_group(row, messages),
        "request": request_digest(messages, max_tokens),
        "follow_up": _count_follow_up(row, counter, max_tokens, options),
    }


def _count_follow_up(row: Row, counter: ChatCounter, max_tokens: int, options: SetOptions) -> tuple[int, int]:
    """Most prompt tokens of the second request, with the longest first answer in it, and its longest answer."""
    if row.follow_up is None:
        return 0, 0
    prompt = counter.count(follow_up_messages(row.follow_up, "")) + max_tokens
    return prompt, options.max_tokens or row.follow_up.max_tokens
