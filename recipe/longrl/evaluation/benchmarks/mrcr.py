"""MRCR (openai/mrcr, MIT): repeat one of 2, 4 or 8 answers to the same request, in conversations of 4K to 1M tokens.

The conversation is sent as it is. Bins are the official ones: tokens of all messages and the answer, [4096, 8192],
(8192, 16384] and so on, with the o200k_base vocabulary of tiktoken. tiktoken downloads it once; without a network set
TIKTOKEN_CACHE_DIR to a folder that has it, such as litellm's litellm_core_utils/tokenizers.

Read the revision f4c69fae7cf81f7ca26b9fee34b392a50f6b8a1d or later, which has the correction of 2025-12-05. Its files
are 2needle/2needle_0.parquet and so on; those without a folder (2needle.parquet) are older, and are refused.
"""

from __future__ import annotations

import bisect
import functools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from recipe.longrl.evaluation.benchmarks.local_files import (
    DataError,
    FileRow,
    check_tasks,
    checked_messages,
    find_task_files,
    read_rows,
)
from recipe.longrl.evaluation.records import Row

ORIGIN = "2needle, 4needle and 8needle of openai/mrcr from the Hugging Face hub"
TASKS = ("2needle", "4needle", "8needle")
BINS = tuple(2**power for power in range(13, 21))
"""Upper ends in tokens; each bin excludes its lower end, but the first one includes 4096."""
MAX_TOKENS = 4096
"""The official protocol sets none; answers average 1,796 characters."""

Count = Callable[[str], int]


def mrcr_rows(
    *,
    path: str | None = None,
    tasks: Sequence[str] = TASKS,
    lengths: Sequence[int] | None = None,
    count_tokens: Count | None = None,
) -> Iterator[Row]:
    """Rows of the needle counts, those outside all bins left out.

    Args:
        lengths: only these bins, by their upper ends: 8192, 16384, ..., 1048576.
        count_tokens: counts the tokens of a text; o200k_base if not given.

    Raises:
        DataError: no file, files of the older layout, or a row without one of its fields.
    """
    check_tasks(tasks, TASKS)
    count = count_tokens or _o200k()
    patterns = {task: f"**/{task}*.parquet" for task in tasks}
    for task, file in find_task_files(path, "mrcr", patterns, ORIGIN):
        if file.stem == task:
            raise DataError(f"{file}: the layout from before 2025-12-05. Fix: download {ORIGIN} again")
        for row in read_rows(file):
            built = _row(task, file, row, count)
            if built is not None and (lengths is None or built.length in lengths):
                yield built


def bin_of(tokens: int) -> int | None:
    """The upper end of a count's bin; None outside all bins."""
    place = bisect.bisect_left(BINS, tokens)
    return BINS[place] if tokens >= BINS[0] // 2 and place < len(BINS) else None


def _row(task: str, file: Path, row: FileRow, count: Count) -> Row | None:
    prompt, answer, prefix = row.text("prompt"), row.text("answer"), row.text("random_string_to_prepend")
    error = row.wrong("prompt", "a JSON list of messages with role and content")
    try:
        messages = checked_messages(json.loads(prompt), error)
    except json.JSONDecodeError:
        raise error from None
    if not answer.startswith(prefix):
        raise row.wrong("answer", f"a text that begins with random_string_to_prepend = {prefix!r}")
    length = bin_of(sum(count(message["content"]) for message in messages) + count(answer))
    if length is None:
        return None
    return Row(
        id=f"{file.stem}/{row.number}",
        messages=messages,
        gold=answer,
        max_tokens=MAX_TOKENS,
        cell=f"{task}/{length}",
        length=length,
        position=row.integer("desired_msg_index") / max(row.integer("total_messages"), 1),
        meta={
            "random_string_to_prepend": prefix,
            "question": messages[-1]["content"],
            "n_needles": row.integer("n_needles"),
            "n_chars": row.integer("n_chars"),
        },
    )


@functools.cache
def _o200k() -> Count:
    import tiktoken

    try:
        encoding = tiktoken.get_encoding("o200k_base")
    except (OSError, ValueError) as error:
        raise DataError(
            f"o200k_base: tiktoken cannot load it ({type(error).__name__}). Fix: connect to the internet once, or set "
            "TIKTOKEN_CACHE_DIR to a folder that has it"
        ) from error
    return lambda text: len(encoding.encode(text, disallowed_special=()))
