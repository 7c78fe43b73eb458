"""DocMath-Eval (arXiv 2311.09805): numeric questions about financial documents, with the evidence paragraphs given.

prompt="official" is the chain of thought of yale-nlp/DocMath-Eval. prompt="qwenlong" is that of QwenLong-L1, evalscope
and GoLongRL. `docmath_grounded_rows` have this project's training prompt, one chunk for each paragraph, so that
citations can be scored against the evidence; rows without evidence are left out.

Known: 600 problems of DocMath are said to be in QwenLong-L1's training data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from verl_longrl.data.prompt import grounded_prompt, neutralise_tags

from recipe.longrl.evaluation.benchmarks.local_files import (
    FileRow,
    check_tasks,
    cluster_of,
    find_task_files,
    read_rows,
    user_message,
    without_chunks,
)
from recipe.longrl.evaluation.benchmarks.qwenlong_prompt import qwenlong_prompt
from recipe.longrl.evaluation.records import NO_DOCUMENT, Row

ORIGIN = "the testmini splits of yale-nlp/DocMath-Eval from the Hugging Face hub"
TASKS = ("simpshort", "compshort", "simplong", "complong")
MAX_TOKENS = {"official": 512, "qwenlong": 4096, "grounded": 4096}
"""512 is the official one; the others are ours."""

_SYSTEM = (
    "You are a financial expert, you are supposed to answer the given question. You need to first think through the "
    "problem step by step, identifying the exact variables and values, and documenting each necessary step. Then you "
    "are required to conclude your response with the final answer in your last sentence as 'Therefore, the answer is "
    "{final answer}'. The final answer should be a numeric value."
)
_STEPS = "Let's think step by step to answer the given question."

PromptName = Literal["official", "qwenlong"]


def docmath_rows(
    *, path: str | None = None, tasks: Sequence[str] = TASKS, prompt: PromptName = "official"
) -> Iterator[Row]:
    """Rows of the testmini splits, in files whose names contain "simpshort_testmini" and so on.

    Raises:
        DataError: no file, or a row without one of its fields.
    """
    for task, row in _file_rows(path, tasks):
        contexts = ("\n".join(row.texts("paragraphs")), NO_DOCUMENT)
        messages, closed_book = (_messages(prompt, context, row.text("question")) for context in contexts)
        yield replace(_row(task, row), messages=messages, closed_book=closed_book, max_tokens=MAX_TOKENS[prompt])


def docmath_grounded_rows(*, path: str | None = None, tasks: Sequence[str] = TASKS) -> Iterator[Row]:
    """Rows that have evidence, their paragraphs as the chunks of a grounded prompt. Raises DataError as above."""
    for task, row in _file_rows(path, tasks):
        built = _row(task, row)
        if evidence := built.meta["evidence_paragraphs"]:
            chunks = [neutralise_tags(paragraph) for paragraph in row.texts("paragraphs")]
            messages = tuple(grounded_prompt(chunks, neutralise_tags(row.text("question"))))
            yield replace(built, messages=messages, closed_book=without_chunks(messages), evidence=tuple(evidence))


def _messages(prompt: PromptName, context: str, question: str) -> tuple[dict[str, str], ...]:
    if prompt == "qwenlong":
        return user_message(qwenlong_prompt(context, question))
    asked = user_message(f"{context}\n\nQuestion: {question}\n\n{_STEPS}")
    return ({"role": "system", "content": _SYSTEM}, *asked)


def _file_rows(path: str | None, tasks: Sequence[str]) -> Iterator[tuple[str, FileRow]]:
    check_tasks(tasks, TASKS)
    patterns = {task: f"**/*{task}*testmini*.*" for task in tasks}
    for task, file in find_task_files(path, "docmath", patterns, ORIGIN):
        for row in read_rows(file):
            yield task, row


def _row(task: str, row: FileRow) -> Row:
    """All of a row but its prompt."""
    paragraphs = row.texts("paragraphs")
    evidence = sorted({*row.integers("table_evidence"), *row.integers("paragraph_evidence")})
    if evidence and not 0 <= evidence[0] <= evidence[-1] < len(paragraphs):
        raise row.wrong("paragraph_evidence", f"places in the {len(paragraphs)} paragraphs")
    return Row(
        id=row.text("question_id"),
        messages=(),
        gold=_gold(row),
        max_tokens=MAX_TOKENS["grounded"],
        cell=task,
        cluster=cluster_of("\n".join(paragraphs)),
        position=sum(evidence) / (len(evidence) * max(len(paragraphs) - 1, 1)) if evidence else None,
        meta={
            "question": row.text("question"),
            "num_chunks": len(paragraphs),
            "evidence_paragraphs": evidence,
        },
    )


def _gold(row: FileRow) -> bool | int | float:
    value = row.values.get("ground_truth")
    if not isinstance(value, bool | int | float):
        raise row.wrong("ground_truth", "a number, or true or false")
    return value
