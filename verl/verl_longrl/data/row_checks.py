"""What a good row is: each check looks at one decoded row and names the column, the value and the fix.

Checks are pure functions row -> problems; `validate.py` adds file and row number. A row is *grounded* when
its `data_source` is scored as "longrlvr" or it carries `ref_chunks`; only then must its prompt hold a
document of chunk tags and its references agree with it. Whether a ground truth can be scored is what its scorer's own
reader says (`rewards/registry.py`, `gold`), so a row that passes is none that the scorer refuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeGuard

from verl_longrl.data.prompt import TAG, ChunkTagError, parse_chunks
from verl_longrl.data.schema import decode_extra_info, decode_ground_truth

ROLES = ("system", "user", "assistant", "tool")
GROUNDED = "longrlvr"
TRUTH = "reward_model.ground_truth"


@dataclass(frozen=True)
class RowProblem:
    """One thing wrong with one column of a row."""

    column: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.column}: {self.what}; fix: {self.fix}"


def check_row(row: Mapping[str, Any], prompt_key: str = "prompt") -> list[RowProblem]:
    """Everything wrong with one row (as a dict, as `read_rows` yields it)."""
    extra = _extra_info(row)
    known = {} if isinstance(extra, RowProblem) else extra
    problems = [*_data_source(row), *_prompt(row, prompt_key), *_ground_truth(row, known), *_prompt_tokens(row)]
    if isinstance(extra, RowProblem):
        return [*problems, extra]
    index = extra.get("index", 0)
    if not _is_int(index):
        problems.append(_wrong_type("extra_info.index", index, "an integer"))
    if is_grounded(row.get("data_source"), extra):
        problems += _grounding(row, extra, prompt_key)
    return problems


def is_grounded(data_source: Any, extra_info: Mapping[str, Any]) -> bool:
    """Whether a row's citations are graded, so that its chunk ids must be right."""
    if extra_info.get("ref_chunks") is not None:
        return True
    return _is_name(data_source) and _scored_as_grounded(data_source)


def shorten(value: Any, width: int = 60) -> str:
    """`repr(value)`, cut in the middle to `width` characters."""
    text = repr(value[: 2 * width] if isinstance(value, str) else value)
    return text if len(text) <= width else f"{text[: width - 20]} ... {text[-15:]}"


def _resolution_error(data_source: str) -> str | None:
    from verl_longrl.rewards import registered

    return _resolution_error_among(data_source, tuple(registered()))


@cache
def _resolution_error_among(data_source: str, registered: tuple[str, ...]) -> str | None:
    """Per row this would be slow; for ever it would be wrong, as `load_scorers` adds names."""
    from verl_longrl.rewards import resolve

    try:
        resolve(data_source)
    except LookupError as error:
        return str(error.args[0])
    return None


def _scored_as_grounded(data_source: str) -> bool:
    from verl_longrl.rewards import resolve

    return _resolution_error(data_source) is None and resolve(data_source) is resolve(GROUNDED)


def _data_source(row: Mapping[str, Any]) -> Iterator[RowProblem]:
    source = row.get("data_source")
    if not _is_name(source):
        yield _wrong_type("data_source", source, "a non-empty string")
    elif error := _resolution_error(source):
        fix = "use a registered name; your own scorers: --scorers here, longrl.reward.scorers in a run"
        yield RowProblem("data_source", error, fix)


def _prompt(row: Mapping[str, Any], key: str) -> Iterator[RowProblem]:
    prompt = row.get(key)
    if not isinstance(prompt, list):
        yield _wrong_type(key, prompt, "a list of {role, content}")
        return
    if not prompt:
        yield RowProblem(key, "is empty", "write at least one user message")
        return
    for i, message in enumerate(prompt):
        message = message if isinstance(message, Mapping) else {}
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            yield RowProblem(f"{key}[{i}].role", f"is {shorten(role)}", f"use one of {', '.join(ROLES)}")
        elif role == "system" and i > 0:
            yield RowProblem(f"{key}[{i}].role", "is 'system' after the first message", "put the system message first")
        if not isinstance(content, str) or not content.strip():
            yield RowProblem(f"{key}[{i}].content", f"is {shorten(content)}", "write the message's text")
    if isinstance(prompt[-1], Mapping) and prompt[-1].get("role") in ("assistant", "system"):
        yield RowProblem(
            f"{key}[{len(prompt) - 1}].role",
            f"is {shorten(prompt[-1]['role'])} in the last message",
            "end the prompt with a user message, which the model answers",
        )


def _extra_info(row: Mapping[str, Any]) -> dict[str, Any] | RowProblem:
    """The row's `extra_info` as scorers see it, or what is wrong with it."""
    extra = row.get("extra_info")
    if extra is not None and not isinstance(extra, Mapping):
        return _wrong_type("extra_info", extra, "a struct")
    try:
        return decode_extra_info(extra)
    except (ValueError, TypeError) as error:
        return RowProblem("extra_info.payload", str(error), "write a JSON object, or use write_samples")


def _ground_truth(row: Mapping[str, Any], extra: Mapping[str, Any]) -> Iterator[RowProblem]:
    model = row.get("reward_model")
    if not isinstance(model, Mapping) or model.get("ground_truth") is None:
        yield RowProblem(TRUTH, "is missing", "write the reference answer")
        return
    try:
        truth = decode_ground_truth(model)
    except (ValueError, TypeError) as error:
        yield RowProblem(TRUTH, f"{error} in {shorten(model['ground_truth'])}", "write samples with write_samples")
        return
    if not isinstance(truth, str | list | dict):
        yield _wrong_type(TRUTH, truth, "a string, a list of answers or a dict")
    elif _is_blank(truth):
        yield RowProblem(TRUTH, f"is empty ({shorten(truth)})", "write the reference answer, or drop the row")
    elif _is_name(source := row.get("data_source")) and not _resolution_error(source):
        yield from _unscorable(source, truth, extra)


def _unscorable(source: str, truth: Any, extra: Mapping[str, Any]) -> Iterator[RowProblem]:
    """What the scorer of `source` has against a ground truth."""
    from verl_longrl.rewards import GoldError, check_gold

    try:
        check_gold(source, truth, extra)
    except GoldError as error:
        column = TRUTH if error.column == "ground_truth" else error.column
        yield RowProblem(column, f"is {shorten(error.value)}, which {error.problem}", f"write {error.expected}")
    except Exception as error:  # noqa: BLE001  a reader may be the user's own, and a file is reported whatever is in it
        what = f"is {shorten(truth)}, which the scorer of {source!r} cannot read ({type(error).__name__}: {error})"
        yield RowProblem(TRUTH, what, "write what that scorer expects, or drop the row")


def _prompt_tokens(row: Mapping[str, Any]) -> Iterator[RowProblem]:
    tokens, fingerprint = row.get("prompt_tokens"), row.get("tokenizer_fingerprint")
    if tokens is None:
        return
    if not _is_int(tokens) or tokens <= 0:
        yield _wrong_type("prompt_tokens", tokens, "a positive integer")
    elif not fingerprint:
        yield RowProblem(
            "tokenizer_fingerprint",
            "is missing beside prompt_tokens",
            "write PromptCounter.fingerprint with the count",
        )


def _grounding(row: Mapping[str, Any], extra: Mapping[str, Any], prompt_key: str) -> Iterator[RowProblem]:
    question = extra.get("question")
    if not isinstance(question, str) or not question.strip():
        found = "missing" if question is None else shorten(question)
        yield RowProblem(
            "extra_info.question", f"is {found}", "write the question, which a judge reads beside the answer"
        )
    ids, texts = extra.get("ref_chunks"), extra.get("ref_chunks_text")
    column = "extra_info.ref_chunks"
    if ids is None:
        yield RowProblem(column, "is missing", "list the ids of the evidence chunks")
    elif not isinstance(ids, list) or not all(_is_int(i) for i in ids):
        yield _wrong_type(column, ids, "a list of integers")
        ids = None
    elif not ids:
        yield RowProblem(column, "is empty", "list the ids of the evidence chunks, or drop the row")
    elif len(set(ids)) < len(ids):
        yield RowProblem(column, f"{shorten(ids)} names a chunk twice", "name every evidence chunk once")
    if texts is not None and (not isinstance(texts, list) or not all(isinstance(t, str) for t in texts)):
        yield _wrong_type("extra_info.ref_chunks_text", texts, "a list of strings")
        texts = None

    messages = [m for m in row.get(prompt_key) or [] if isinstance(m, Mapping) and isinstance(m.get("content"), str)]
    tagged = [m["content"] for m in messages if TAG.search(m["content"])]
    try:
        chunks = parse_chunks(tagged[-1] if tagged else "")
    except ChunkTagError as error:
        yield RowProblem(prompt_key, str(error), "build the prompt with verl_longrl.data.prompt.grounded_prompt")
        return
    count = extra.get("num_chunks")
    if count is not None and count != len(chunks):
        yield RowProblem("extra_info.num_chunks", f"is {count}, the prompt has {len(chunks)} chunks", "make them agree")
    for i in ids or []:
        if not 0 <= i < len(chunks):
            yield RowProblem(
                column,
                f"{i} is out of range, the prompt has chunks 0..{len(chunks) - 1}",
                "use 0-based ids of chunks in this prompt; was the prompt cut after the ids were made?",
            )
    if not ids or texts is None:
        return
    if len(texts) != len(ids):
        yield RowProblem(
            "extra_info.ref_chunks_text",
            f"has {len(texts)} texts for {len(ids)} ref_chunks",
            "write one text per id, in the same order",
        )
        return
    for k, (i, text) in enumerate(zip(ids, texts, strict=True)):
        if 0 <= i < len(chunks) and (not text.strip() or text.strip() not in chunks[i]):
            yield RowProblem(
                f"extra_info.ref_chunks_text[{k}]",
                f"{shorten(text)} is not in chunk {i} of the prompt ({shorten(chunks[i])})",
                "take the text from the chunk that ref_chunks names",
            )


def _wrong_type(column: str, value: Any, expected: str) -> RowProblem:
    kind = "missing" if value is None else f"{shorten(value)} ({type(value).__name__})"
    return RowProblem(column, f"is {kind}", f"write {expected}")


def _is_name(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and bool(value)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_blank(truth: Any) -> bool:
    """Empty text, or a container in which nothing is left once empty text is taken away."""
    if isinstance(truth, str):
        return not truth.strip()
    if isinstance(truth, list | dict):
        return all(map(_is_blank, truth.values() if isinstance(truth, dict) else truth))
    return truth is None
