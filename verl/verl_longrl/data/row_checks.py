"""Check one decoded row: each problem names the column, the value and the fix.

Checks are pure functions row -> problems; `validation.py` adds the file and the number of the row. A row is *grounded*
when its `data_source` is scored as "longrlvr" or it has `ref_chunks`. Only a grounded row needs a prompt with a
document of chunk tags, and references that agree with it. Whether a ground truth can be scored is decided by the reader
that its scorer has registered (`gold` in `rewards/registry.py`), so a row that passes is never refused by its scorer,
and whether an answer can reach it by `gold_checks.py`.

Nothing in a row may pass for the structure around it: no special token in a message, no second document, and no tag of
the response format in a chunk.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeGuard

from verl_longrl.data.gold_checks import find_unreachable
from verl_longrl.data.prompt import RESPONSE_TAG, TAG, ChunkTagError, parse_chunks
from verl_longrl.data.schema import decode_extra_info, decode_ground_truth
from verl_longrl.special_tokens import COMMON, SpecialTokenFinder

if TYPE_CHECKING:
    from verl_longrl.rewards import GoldError

ROLES = ("system", "user", "assistant", "tool")
GROUNDED = "longrlvr"
TRUTH = "reward_model.ground_truth"
_WORD = re.compile(r"\w")


@dataclass(frozen=True)
class RowProblem:
    """One problem with one column of a row."""

    column: str
    problem: str
    fix: str
    value: str = ""
    """The value as shown in the message; empty where there is none to show."""

    def __str__(self) -> str:
        place = f"{self.column} = {self.value}" if self.value else self.column
        return f"{place}: {self.problem}. Fix: {self.fix}"


def check_row(
    row: Mapping[str, Any], prompt_key: str = "prompt", special_tokens: SpecialTokenFinder = COMMON
) -> list[RowProblem]:
    """All problems of one row, which is a dict as `read_rows` yields it.

    special_tokens: those that no message may contain; by default those of common chat formats.
    """
    extra = _read_extra_info(row)
    known = {} if isinstance(extra, RowProblem) else extra
    problems = [
        *_check_data_source(row),
        *_check_prompt(row, prompt_key, special_tokens),
        *_check_ground_truth(row, known),
        *_check_prompt_tokens(row),
    ]
    if isinstance(extra, RowProblem):
        return [*problems, extra]
    problems += _check_evidence_types(extra)
    if is_grounded(row.get("data_source"), extra):
        problems += _check_grounding(row, extra, prompt_key)
    return problems


def is_grounded(data_source: Any, extra_info: Mapping[str, Any]) -> bool:
    """Whether the citations of a row are graded, so that its chunk ids must be right."""
    if extra_info.get("ref_chunks") is not None:
        return True
    return _is_name(data_source) and _scored_as_grounded(data_source)


def shorten(value: Any, width: int = 60) -> str:
    """`repr(value)`, cut in the middle to `width` characters."""
    try:
        text = repr(value[: 2 * width] if isinstance(value, str) else value)
    except RecursionError:
        return f"a {type(value).__name__} of too many levels"
    return text if len(text) <= width else f"{text[: width - 20]} ... {text[-15:]}"


def _has_scorer(data_source: str) -> bool:
    from verl_longrl.rewards import registered

    return _has_scorer_among(data_source, tuple(registered()))


@cache
def _has_scorer_among(data_source: str, registered: tuple[str, ...]) -> bool:
    """Cached because it is called for every row. `registered` is an argument because `load_scorers` adds names."""
    from verl_longrl.rewards import resolve

    try:
        resolve(data_source)
    except LookupError:
        return False
    return True


def _scored_as_grounded(data_source: str) -> bool:
    from verl_longrl.rewards import resolve

    return _has_scorer(data_source) and resolve(data_source) is resolve(GROUNDED)


def _check_data_source(row: Mapping[str, Any]) -> Iterator[RowProblem]:
    from verl_longrl.rewards.registry import describe_unknown

    source = row.get("data_source")
    if not _is_name(source):
        yield _wrong_type("data_source", source, "a non-empty string")
    elif not _has_scorer(source):
        fix = "use a registered name, or load your own scorers: --scorers here, longrl.reward.scorers in a run"
        yield RowProblem("data_source", describe_unknown(source), fix, shorten(source))


def _check_prompt(row: Mapping[str, Any], key: str, special_tokens: SpecialTokenFinder) -> Iterator[RowProblem]:
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
            yield RowProblem(f"{key}[{i}].role", "unknown role", f"use one of {', '.join(ROLES)}", shorten(role))
        elif role == "system" and i > 0:
            yield RowProblem(f"{key}[{i}].role", "not the first message", "put the system message first", "'system'")
        if not isinstance(content, str) or not content.strip():
            yield RowProblem(f"{key}[{i}].content", "no text", "write the text of the message", shorten(content))
        elif token := special_tokens.find(content):
            yield RowProblem(
                f"{key}[{i}].content",
                f"contains the special token {token}, which can end the message or begin another one",
                f"write it with a space after its first character, as in {token[0]} {token[1:]}; or name the tokenizer "
                "(--tokenizer), and only its own special tokens count",
            )
    if isinstance(prompt[-1], Mapping) and prompt[-1].get("role") in ("assistant", "system"):
        yield RowProblem(
            f"{key}[{len(prompt) - 1}].role",
            "the last message must be one that the model answers",
            "end the prompt with a user message",
            shorten(prompt[-1]["role"]),
        )


def _read_extra_info(row: Mapping[str, Any]) -> dict[str, Any] | RowProblem:
    """The row's `extra_info` as scorers see it, or the problem with it."""
    extra = row.get("extra_info")
    if extra is not None and not isinstance(extra, Mapping):
        return _wrong_type("extra_info", extra, "a struct")
    try:
        return decode_extra_info(extra)
    except (ValueError, TypeError) as error:
        return RowProblem("extra_info.payload", str(error), "write a JSON object, or use write_samples")


def _check_ground_truth(row: Mapping[str, Any], extra: Mapping[str, Any]) -> Iterator[RowProblem]:
    model = row.get("reward_model")
    if not isinstance(model, Mapping) or model.get("ground_truth") is None:
        yield RowProblem(TRUTH, "is missing", "write the reference answer")
        return
    try:
        truth = decode_ground_truth(model)
    except (ValueError, TypeError) as error:
        yield RowProblem(TRUTH, str(error), "write samples with write_samples", shorten(model["ground_truth"]))
        return
    if not isinstance(truth, str | list | dict):
        yield _wrong_type(TRUTH, truth, "a string, a list of answers or a dict")
    elif _is_blank(truth):
        yield RowProblem(TRUTH, "is empty", "write the reference answer, or drop the row", shorten(truth))
    elif _is_name(source := row.get("data_source")) and _has_scorer(source):
        problem = next(_check_with_reader(source, truth, extra), None) or _check_reachable(source, truth, extra)
        if problem:
            yield problem


def _check_with_reader(source: str, truth: Any, extra: Mapping[str, Any]) -> Iterator[RowProblem]:
    """The problem that the reader of the scorer of `source` has with a ground truth."""
    from verl_longrl.rewards import GoldError, check_gold

    try:
        check_gold(source, truth, extra)
    except GoldError as error:
        yield describe_gold_error(error)
    except Exception as error:  # noqa: BLE001  a reader may be the user's own; validation must not end with it
        problem = f"the scorer of {source!r} cannot read it ({type(error).__name__}: {error})"
        yield RowProblem(TRUTH, problem, "write what that scorer expects, or drop the row", shorten(truth))


def _check_reachable(source: str, truth: Any, extra: Mapping[str, Any]) -> RowProblem | None:
    from verl_longrl.rewards import resolve

    error = find_unreachable(source, resolve(source), truth, extra)
    return describe_gold_error(error) if error else None


def describe_gold_error(error: GoldError) -> RowProblem:
    """The problem of a row whose ground truth cannot be scored."""
    column = TRUTH if error.column == "ground_truth" else error.column
    return RowProblem(column, error.problem, f"write {error.expected}", shorten(error.value))


def _check_prompt_tokens(row: Mapping[str, Any]) -> Iterator[RowProblem]:
    tokens, fingerprint = row.get("prompt_tokens"), row.get("tokenizer_fingerprint")
    if tokens is None:
        return
    if not _is_int(tokens) or tokens <= 0:
        yield _wrong_type("prompt_tokens", tokens, "a positive integer")
    elif not fingerprint:
        yield RowProblem(
            "tokenizer_fingerprint",
            "is missing, although prompt_tokens is set",
            "write PromptCounter.fingerprint with the count",
        )


def _check_grounding(row: Mapping[str, Any], extra: Mapping[str, Any], prompt_key: str) -> Iterator[RowProblem]:
    question = extra.get("question")
    if not isinstance(question, str) or not question.strip():
        shown = "" if question is None else shorten(question)
        problem = "is missing" if question is None else "no text"
        fix = "write the question, which a judge reads with the answer"
        yield RowProblem("extra_info.question", problem, fix, shown)
    ids, texts = extra.get("ref_chunks"), extra.get("ref_chunks_text")
    column = "extra_info.ref_chunks"
    if ids is None:
        yield RowProblem(column, "is missing", "list the ids of the evidence chunks")
    elif ids == []:
        yield RowProblem(column, "is empty", "list the ids of the evidence chunks, or drop the row")
    elif _is_list_of_ints(ids) and len(set(ids)) < len(ids):
        yield RowProblem(column, "names a chunk twice", "name every evidence chunk once", shorten(ids))

    ids, texts = ids if _is_list_of_ints(ids) else [], texts if _is_list_of_texts(texts) else None
    yield from _check_chunks(row, extra, prompt_key, ids, texts)


def _check_evidence_types(extra: Mapping[str, Any]) -> Iterator[RowProblem]:
    ids, texts = extra.get("ref_chunks"), extra.get("ref_chunks_text")
    if ids is not None and not _is_list_of_ints(ids):
        yield _wrong_type("extra_info.ref_chunks", ids, "a list of integers")
    if texts is not None and not _is_list_of_texts(texts):
        yield _wrong_type("extra_info.ref_chunks_text", texts, "a list of strings")


def _check_chunks(
    row: Mapping[str, Any], extra: Mapping[str, Any], prompt_key: str, ids: list[int], texts: list[str] | None
) -> Iterator[RowProblem]:
    """Whether the evidence agrees with the chunks of the prompt. ids, texts: the evidence, of the right types."""
    try:
        chunks = parse_chunks(_tagged_text(row.get(prompt_key)))
    except ChunkTagError as error:
        yield RowProblem(prompt_key, str(error), "build the prompt with verl_longrl.data.prompt.grounded_prompt")
        return
    for i, chunk in enumerate(chunks):
        if tag := RESPONSE_TAG.search(chunk):
            problem = f"the text of chunk {i} contains {tag[0]}, a tag of the response format"
            yield RowProblem(prompt_key, problem, "pass documents through verl_longrl.data.prompt.neutralise_tags")
    count = extra.get("num_chunks")
    if count is not None and count != len(chunks):
        problem = f"the prompt has {len(chunks)} chunks"
        yield RowProblem("extra_info.num_chunks", problem, "write the number of chunks in the prompt", shorten(count))
    for i in ids:
        if not 0 <= i < len(chunks):
            yield RowProblem(
                "extra_info.ref_chunks",
                f"{i} is out of range, the prompt has chunks 0..{len(chunks) - 1}",
                "use 0-based ids of chunks in this prompt; check that the prompt was not cut after the ids were made",
                shorten(ids),
            )
        elif not _WORD.search(chunks[i]):
            problem = f"chunk {i} has no word in it ({shorten(chunks[i])})"
            fix = "name chunks that hold the evidence, or drop the row"
            yield RowProblem("extra_info.ref_chunks", problem, fix, shorten(ids))
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
                f"is not in chunk {i} of the prompt ({shorten(chunks[i])})",
                "take the text from the chunk that ref_chunks names",
                shorten(text),
            )


def _tagged_text(prompt: Any) -> str:
    """The messages of a prompt with chunk tags as one text, in which no two chunks of two messages are neighbours."""
    messages = prompt if isinstance(prompt, list) else []
    texts = [message.get("content") for message in messages if isinstance(message, Mapping)]
    return "\n(next message)\n".join(text for text in texts if isinstance(text, str) and TAG.search(text))


def _wrong_type(column: str, value: Any, expected: str) -> RowProblem:
    if value is None:
        return RowProblem(column, "is missing", f"write {expected}")
    return RowProblem(column, "wrong value", f"write {expected}", f"{shorten(value)} ({type(value).__name__})")


def _is_name(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and bool(value)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_list_of_ints(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(map(_is_int, value))


def _is_list_of_texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_blank(truth: Any) -> bool:
    """Whether a ground truth is empty text, or a container of nothing but empty text."""
    if isinstance(truth, str):
        return not truth.strip()
    if isinstance(truth, list | dict):
        return all(map(_is_blank, truth.values() if isinstance(truth, dict) else truth))
    return truth is None
