"""Measure a judge on rows whose verdict is known.

A row is a line of JSON with question, reference, candidate and label (true where the candidate is right). No rule
decides first: every row is asked. Replies are kept beside the file, so a judge is asked once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from reprlib import repr as shorten
from typing import Any, NamedTuple

from recipe.longrl.evaluation.benchmarks.local_files import FileRow, read_rows
from recipe.longrl.evaluation.client import ClientOptions
from recipe.longrl.evaluation.errors import EvaluationError
from recipe.longrl.evaluation.judge.ask import Judge, ask_judge
from recipe.longrl.evaluation.judge.protocols import Question
from recipe.longrl.evaluation.judge.verdicts import VerdictReader
from recipe.longrl.evaluation.statistics import kappa, wilson


class LabelledRow(NamedTuple):
    """A question whose right verdict is known."""

    question: Question
    label: bool


def read_labelled(path: Path) -> list[LabelledRow]:
    """The rows of a labelled file (.jsonl, .json or .parquet). Raises EvaluationError."""
    try:
        rows = [_read_row(row) for row in read_rows(path)]
    except ValueError as error:
        raise EvaluationError(str(error)) from error
    if not rows:
        raise EvaluationError(f"{path}: no rows. Fix: lines with question, reference, candidate and label")
    return rows


def measure_judge(path: Path, judge: Judge, options: ClientOptions) -> dict[str, Any]:
    """Ask the judge and compare its verdicts with the labels. Raises EvaluationError.

    Returns n, accuracy with its Wilson interval, kappa with the labels, and the counts of each wrong verdict. Undecided
    replies and missing ones are in the denominator of the accuracy, and a verdict of their own for kappa.
    """
    rows = read_labelled(path)
    log = judge.record.log(path.parent).with_name(f"{path.stem}.{judge.record.log(path.parent).name}")
    questions = [(row.question, {"row": str(number), "sample": 0}) for number, row in enumerate(rows, 1)]
    asyncio.run(ask_judge(judge.record.figure, judge, questions, log, options))
    reader = VerdictReader(judge.record, log)
    try:
        verdicts = [reader.verdict(row.question).decision for row in rows]
    finally:
        reader.replies.close()
    return compare_with_labels([row.label for row in rows], verdicts) | {"judge": judge.record.figure}


def compare_with_labels(labels: Sequence[bool], verdicts: Sequence[str]) -> dict[str, Any]:
    """The figures of `measure_judge`. verdicts: decisions, one for each label."""
    expected = ["right" if label else "wrong" for label in labels]
    agreed = sum(verdict == label for verdict, label in zip(verdicts, expected, strict=True))
    pairs, interval = Counter(zip(expected, verdicts, strict=True)), wilson(agreed, len(labels))
    return {
        "n": len(labels),
        "mean": agreed / len(labels),
        "low": interval.low,
        "high": interval.high,
        "kappa": kappa(expected, verdicts),
        "right_called_wrong": pairs["right", "wrong"],
        "wrong_called_right": pairs["wrong", "right"],
        "undecided": verdicts.count("undecided"),
        "no_reply": verdicts.count("no reply"),
    }


def _read_row(row: FileRow) -> LabelledRow:
    kinds: dict[str, tuple[type, str]] = dict.fromkeys(Question._fields, (str, "a text"))
    kinds["label"] = (bool, "true or false")
    for name, (kind, expected) in kinds.items():
        value = row.values.get(name)
        if not isinstance(value, kind):
            raise EvaluationError(f"{row.place}: {name} = {shorten(value)}: expected {expected}. Fix: correct the row")
    return LabelledRow(Question(*(row.values[name] for name in Question._fields)), row.values["label"])
