"""LongReason (arXiv 2501.15089): 794 reasoning questions, original, expanded, and in contexts of 8K to 128K tokens.

The field `prompt` is sent as the only message. Its exact wording is unknown to us, so a prompt that does not end with
options is refused: it would be another field of that name. `original` and `expanded` have no distracting text; a score
relative to `expanded` says what the length costs.

Known: answers were misaligned until 2025-05-22, so use a revision after that, and record it as options.revision.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from recipe.longrl.evaluation.benchmarks.local_files import (
    FileRow,
    check_tasks,
    find_task_files,
    read_rows,
    user_message,
)
from recipe.longrl.evaluation.records import NO_DOCUMENT, Row

ORIGIN = "data/*.parquet of lz1bytedance/LongReason from the Hugging Face hub"
SPLITS = {"original": None, "expanded": None, "8k": 8192, "16k": 16384, "32k": 32768, "64k": 65536, "128k": 131072}
"""Split -> length class in tokens."""
MAX_TOKENS = 4096
LETTERS = "ABCDE"
_OPTION = re.compile(r"^\s*\(?([A-E])[.):]\s*(\S.*)$", re.MULTILINE)
_END_CHARS = 8000


def longreason_rows(
    *,
    path: str | None = None,
    tasks: Sequence[str] = tuple(SPLITS),
    lengths: Sequence[int] | None = None,
    max_tokens: int = MAX_TOKENS,
    revision: str = "",
) -> Iterator[Row]:
    """Rows of the splits.

    Args:
        tasks: splits by name.
        lengths: only splits of these lengths in tokens.
        max_tokens: the longest answer; the authors' figure is unknown to us.
        revision: of the hub's repository, for the record.

    Raises:
        DataError: no file, a row without one of its fields, or a prompt without options at its end.
    """
    check_tasks(tasks, tuple(SPLITS))
    patterns = {split: f"**/{split}-*.parquet" for split in tasks if lengths is None or SPLITS[split] in lengths}
    for split, file in find_task_files(path, "longreason", patterns, ORIGIN):
        for row in read_rows(file):
            number, inquiry, options = row.text("example_idx"), row.text("final_inquiry"), _options(row)
            choices = "\n".join(f"{letter}. {text}" for letter, text in options.items())
            yield Row(
                id=f"{split}/{number}",
                messages=user_message(row.text("prompt")),
                gold=row.choice("answer", LETTERS),
                max_tokens=max_tokens,
                cell=split,
                length=SPLITS[split],
                cluster=number,
                # The prompt's own wording may be anywhere in it, so the question is put together from its parts.
                closed_book=user_message(f"{NO_DOCUMENT}\n\n{inquiry}\n{choices}"),
                meta={
                    "question": inquiry,
                    "options": options,
                    **({"revision": revision} if revision else {}),
                },
            )


def _options(row: FileRow) -> dict[str, str]:
    """The options at the end of the prompt."""
    options = dict(_OPTION.findall(row.text("prompt")[-_END_CHARS:]))
    if len(options) < 2 or row.choice("answer", LETTERS) not in options:
        raise row.wrong("prompt", "a prompt that ends with options such as 'A. text', the right one among them")
    return options
