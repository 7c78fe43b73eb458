"""CorpusQA (arXiv 2601.14952): questions over whole corpora of 128K to 10M tokens, whose prompts are sent as given.

Known: the official code does not write failed requests, so they leave its mean. An answer `[]` is legitimate: nothing
in the corpus matches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from recipe.longrl.evaluation.benchmarks.local_files import (
    check_tasks,
    cluster_of,
    find_task_files,
    read_rows,
    user_message,
)
from recipe.longrl.evaluation.records import NO_DOCUMENT, Row

ORIGIN = "128k_4domains.jsonl and 1m_4domains.jsonl of Tongyi-Zhiwen/CorpusQA from the Hugging Face hub"
LENGTHS = {"128k": 131072, "1m": 1048576}
MAX_TOKENS = 4096
"""The authors' figure is unknown to us."""
_BEGINNING_CHARS = 20_000
_CLOSED_BOOK = f'{NO_DOCUMENT}\n\n{{question}}\n\nEnd your response with "The answer is: (insert answer here)".'
"""Ours: prompts are given whole, and their wording around the question is unknown to us."""


def corpusqa_rows(
    *, path: str | None = None, tasks: Sequence[str] = tuple(LENGTHS), max_tokens: int = MAX_TOKENS
) -> Iterator[Row]:
    """Rows of the files of these length classes.

    Raises:
        DataError: no file, or a row without one of its fields.
    """
    check_tasks(tasks, tuple(LENGTHS))
    patterns = {task: f"**/{task}_*.jsonl*" for task in tasks}
    for task, file in find_task_files(path, "corpusqa", patterns, ORIGIN):
        for row in read_rows(file):
            messages = row.messages("prompt")
            name, question = row.text("id"), row.text("question")
            domain = name.rstrip("0123456789").rstrip("_-")
            yield Row(
                id=f"{task}/{name}",
                messages=messages,
                gold=row.text("answer"),
                max_tokens=max_tokens,
                cell=f"{domain}/{task}",
                length=LENGTHS[task],
                # Questions about one corpus share the beginning of the prompt.
                cluster=cluster_of(messages[0]["content"][:_BEGINNING_CHARS]),
                closed_book=user_message(_CLOSED_BOOK.format(question=question)),
                meta={"question": question, "domain": domain},
            )
