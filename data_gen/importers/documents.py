"""Import questions about one long text, from plain rows or LongBench Pro, as any GoLongRL task but multiple choice.

A row has `context`, `question` and `answer`, and may have `task`, one of these tasks, and `language`. LongBench Pro
(arXiv 2601.02872) has `question_nonthinking`, which says how to write each item of the answer, the name of its own task
in `secondary_task`, and its answer as a list.
"""

from __future__ import annotations

from collections.abc import Mapping
from reprlib import repr as short
from typing import Any

from verl_longrl.data.schema import Sample
from verl_longrl.rewards.tasks.golongrl import TASKS, longbench_pro_task

from data_gen.importers.fields import (
    Unusable,
    clean,
    describe_fields,
    language_of,
    long_sample,
    prove_sample,
    required_text,
)
from data_gen.importers.prompts import TEXT, answer_instruction, question_about
from data_gen.importers.tables import TABLE, table_sample

QA, CHOICE = "golongrl_qa", "golongrl_choice"
LINES = ("golongrl_exhaustive", "golongrl_matching", "golongrl_ranking", "golongrl_ordering")
"""Tasks whose answer is a whole list. For other tasks, each item of a list is an accepted answer."""


def import_document(row: Mapping[str, Any]) -> Sample:
    """Import a row with `context`, `question` or `question_nonthinking`, `answer`, and `task` or `secondary_task` (qa).

    Raises:
        Unusable: also (unknown_task) another task, (choice_without_choices) multiple choice, (several_lines) an answer
            to task qa of more than one line.
    """
    context, question = required_text(row, "context"), required_text(row, "question", "question_nonthinking")
    task, language = task_of(row), language_of(row)
    if task == TABLE:
        return table_sample(row, context, TEXT[language], question)
    answers = _answers(row, task)
    sample = long_sample(
        task,
        question_about(context, TEXT[language], question, answer_instruction(task, language)),
        answers if task in LINES or len(answers) > 1 else answers[0],
        question,
        row,
    )
    for answer in [answers] if task in LINES else answers:
        prove_sample(sample, answer, language)
    return sample


def task_of(row: Mapping[str, Any]) -> str:
    """The data source of a row's task, golongrl_NAME.

    `task` is golongrl_NAME or NAME, or it or `secondary_task` names a task of LongBench Pro ("T3.1", or the whole
    name). Raises Unusable.
    """
    named = clean(row.get("secondary_task")) or clean(row.get("task")) or "qa"
    task = f"golongrl_{named.removeprefix('golongrl_')}"
    if task == CHOICE:
        raise Unusable("choice_without_choices", "task is choice; give the choices as choice_A, choice_B and so on")
    if task in TASKS:
        return task
    try:
        return longbench_pro_task(named)
    except ValueError as error:
        names = ", ".join(name.removeprefix("golongrl_") for name in TASKS if name != CHOICE)
        raise Unusable("unknown_task", f"task is {short(named)}, expected {names}, or LongBench Pro's name") from error


def _answers(row: Mapping[str, Any], task: str) -> list[str]:
    """The items of the answer, or the accepted answers. LongBench Pro accepts only the first answer to a question."""
    value = row.get("answer")
    if task in LINES and isinstance(value, str):
        value = [line for line in value.split("\n") if line.strip()]
    values = value if isinstance(value, list) else [value]
    answers = [clean(item) for item in values]
    if not answers or not all(answers):
        raise Unusable(
            "no_answer", f"answer is {short(value)}, expected text or a list of texts ({describe_fields(row)})"
        )
    if task != QA:
        return answers
    if several := next((answer for answer in answers if "\n" in answer), None):
        raise Unusable("several_lines", f"the answer is {short(several)}, expected one line; a list needs another task")
    return answers[:1] if "secondary_task" in row else answers
