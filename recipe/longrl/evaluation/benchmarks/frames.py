"""Frames (arXiv 2409.12941): 824 questions over 2 to 15 Wikipedia articles, with the articles' texts.

The authors' file has links and no texts; the file read here is ModelScope's copy with the texts. The prompt is that of
QwenLong-L1 and evalscope, whose context is every article's title and text, joined by line ends.

Known: articles were fetched after the questions were written; at least one row has no text. Rows without text are in a
cell of their own, so that they can be reported apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from recipe.longrl.evaluation.benchmarks.local_files import FileRow, find_files, read_rows, user_message
from recipe.longrl.evaluation.benchmarks.qwenlong_prompt import qwenlong_prompt
from recipe.longrl.evaluation.records import NO_DOCUMENT, Row

ORIGIN = "test.jsonl of iic/frames from ModelScope"
MAX_TOKENS = 4096
"""The authors' figure is unknown to us."""


def frames_rows(*, path: str | None = None, max_tokens: int = MAX_TOKENS) -> Iterator[Row]:
    """Rows of test.jsonl.

    Raises:
        DataError: no file, or a row without one of its fields.
    """
    for file in find_files(path, "frames", "test.jsonl*", ORIGIN):
        for row in read_rows(file):
            question, articles = row.text("Prompt"), _articles(row)
            has_text = any(text.strip() for _, text in articles)
            yield Row(
                id=str(row.number),
                messages=user_message(qwenlong_prompt("\n".join(f"{t}\n{text}" for t, text in articles), question)),
                gold=row.text("Answer"),
                max_tokens=max_tokens,
                cell="with_text" if has_text else "without_text",
                cluster=str(row.number),
                closed_book=user_message(qwenlong_prompt(NO_DOCUMENT, question)),
                meta={"question": question, "articles": [title for title, _ in articles]},
            )


def _articles(row: FileRow) -> list[tuple[str, str]]:
    """(title, text) of each article."""
    items = row.values.get("wiki_items")
    error = row.wrong("wiki_items", "a list of articles with title and text")
    if not isinstance(items, list):
        raise error
    articles = []
    for item in items:
        title, text = (item.get("title"), item.get("text")) if isinstance(item, Mapping) else (None, None)
        if not isinstance(title, str) or not isinstance(text, str):
            raise error
        articles.append((title, text))
    return articles
