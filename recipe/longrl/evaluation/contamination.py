"""Knowledge that a model may have before it reads: answers without the documents, and training text that a set repeats.

Closed book: every row is asked again with `NO_DOCUMENT` in place of its documents, as a set of its own beside the first
one (NAME.closed_book), with its own plan, log and scores. Nothing but the documents differs, so the paired difference
is what reading them brings. LongBench v2 has an official prompt for it, which is used there.

Overlap: the sequences of 13 words (for shorter questions, all their words) of a planned set that training files have,
too, by the rule of `data_gen.decontaminate`. The words of the prompt's frame, which the closed-book prompt shares, do
not count as context.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from verl_longrl.data.jsonl import dumps, iterate_jsonl
from verl_longrl.trainer.checkpoints import write_atomic

from recipe.longrl.evaluation import figures
from recipe.longrl.evaluation.catalog import BenchmarkError
from recipe.longrl.evaluation.compare import set_folders
from recipe.longrl.evaluation.errors import EvaluationError
from recipe.longrl.evaluation.plan import RECORD, ROWS, iterate_entries, read_row
from recipe.longrl.evaluation.records import Row
from recipe.longrl.evaluation.rules.reading import question_of

CLOSED_BOOK = ".closed_book"
"""Ends the name of a set whose rows are asked without their documents."""
OVERLAP = "overlap.json"
WORST = 20
"""Rows that are named in overlap.json, those with the largest shares."""


def closed_rows(rows: Iterable[Row], benchmark: str) -> Iterator[Row]:
    """The rows without their documents; those that have no question without them are left out.

    Raises:
        BenchmarkError: there are none.
    """
    found = False
    for row in rows:
        if row.closed_book:
            found = True
            # Without a text there is nothing to reason about first.
            longest = row.follow_up.max_tokens if row.follow_up else row.max_tokens
            yield replace(row, messages=row.closed_book, follow_up=None, max_tokens=longest)
    if not found:
        raise BenchmarkError(
            f"closed_book = true: {benchmark} has no question that can be asked without its documents with these "
            "options. Fix: closed_book=false"
        )


def read_contamination(folders: Mapping[str, Path]) -> dict[str, Any]:
    """Closed book and overlap of each set that has them: {set: {"closed_book": ..., "overlap": ...}}."""
    known: dict[str, Any] = {}
    for name, folder in folders.items():
        found = {}
        closed = folders.get(name + CLOSED_BOOK)
        if closed and (compared := compare_closed_book(folder, closed)):
            found["closed_book"] = compared
        if overlap := _read_overlap(folder):
            found["overlap"] = overlap
        if found:
            known[name] = found
    return known


def compare_closed_book(folder: Path, closed: Path) -> dict[str, Any] | None:
    """The scores of a set against those of its closed book, paired by row and sample. Both must be scored.

    For each rule: a is the closed book and b the set, with b - a and its clustered interval; `right_without` is the
    share of answers that are fully right without the documents, and `others` the set's figure on the other rows. None
    if the two have no row in common.
    """
    from recipe.longrl.evaluation.score import SCORES, answers_of

    without = {(line["row"], line["sample"]): line for line in iterate_jsonl(closed / SCORES)}
    lines = [*iterate_jsonl(folder / SCORES)]
    both = [line for line in lines if (line["row"], line["sample"]) in without]
    if not both:
        return None
    rules = {}
    for rule in lines[0]["scores"]:
        opened = answers_of(both, rule)
        unread = [without[answer.row, answer.sample]["scores"][rule] for answer in opened]
        right = {answer.row for answer, score in zip(opened, unread, strict=True) if score == 1}
        others = [answer for answer in opened if answer.row not in right]
        figure = figures.make_comparison(unread, [each.score for each in opened], [each.cluster for each in opened])
        rules[rule] = figure | {
            "right_without": sum(score == 1 for score in unread) / len(unread),
            "others": figures.make_figure(others) if others else None,
        }
    headline = json.loads((folder / RECORD).read_text())["options"]["rule"] or next(iter(rules))
    return {"rule": headline, "answers": len(both), "left_out": len(lines) - len(both), "rules": rules}


def choose_planned(out: Path, names: Sequence[str]) -> dict[str, Path]:
    """The folders of a run's planned sets of these names; all without names. Raises EvaluationError.

    Sets of other tools are not among them, since these keep their rows to themselves.
    """
    with_rows = {name: folder for name, folder in set_folders(out).items() if (folder / ROWS).is_file()}
    folders = {name: folder for name, folder in with_rows.items() if not name.endswith(CLOSED_BOOK)}
    for name in names:
        if name not in folders:
            raise EvaluationError(
                f"--sets = {name}: not planned in {out}. Fix: one of {', '.join(folders)}, or plan it"
            )
    return {name: folder for name, folder in folders.items() if not names or name in names}


def write_overlap(folders: Mapping[str, Path], training: Sequence[Path], n: int = 13) -> dict[str, Any]:
    """Look for each planned set's n-grams in training files, and write overlap.json into its folder.

    Training files are read row by row; a set takes 9 bytes for each different n-gram of its prompts. Returns the
    contents by set. Raises EvaluationError for a file that cannot be read.
    """
    from data_gen.decontaminate import MarkedNgrams, fingerprint_files, read_texts
    from data_gen.document_readers import CorpusError

    for file in training:
        if not file.is_file():
            raise EvaluationError(f"training file {file}: not found. Fix: correct the path")
    marks = {name: MarkedNgrams(_texts_of(folder), n) for name, folder in folders.items()}
    shared = dict.fromkeys(folders, 0)
    rows = 0
    try:
        for texts in itertools.chain.from_iterable(map(read_texts, training)):
            rows += 1
            for name, found in marks.items():
                shared[name] += found.mark(texts)
    except CorpusError as error:
        raise EvaluationError(str(error)) from error
    files = fingerprint_files(training)
    overlaps = {}
    for name, folder in folders.items():
        record = json.loads((folder / RECORD).read_text())
        overlap = {
            "data_sha256": record["data_sha256"],
            "n": n,
            "training_files": files,
            "training_rows": rows,
            "training_rows_that_share": shared[name],
            **_overlap_of(folder, marks[name]),
        }
        write_atomic(folder / OVERLAP, dumps(overlap, indent=1) + "\n")
        overlaps[name] = overlap
    return overlaps


def _overlap_of(folder: Path, marks: Any) -> dict[str, Any]:
    lines = []
    for row in map(read_row, iterate_entries(folder)):
        question, said = marks.marked(question_of(row))
        context, repeated = marks.marked(_content(row.messages), _content(row.closed_book))
        lines.append({"row": row.id, "question": question, "context": context, "words": said or repeated})
    worst = sorted(lines, key=lambda line: (line["question"] or 0.0, line["context"] or 0.0), reverse=True)[:WORST]
    return {
        "rows": len(lines),
        "question": _summary([line["question"] for line in lines]),
        "context": _summary([line["context"] for line in lines]),
        "worst": [line for line in worst if line["question"] or line["context"]],
    }


def _summary(shares: list[float | None]) -> dict[str, Any]:
    """Of rows that are long enough to be compared: how many, the share of those with any overlap, the mean overlap."""
    known = [share for share in shares if share is not None]
    return {
        "rows": len(known),
        "share": sum(share > 0 for share in known) / len(known) if known else None,
        "mean": sum(known) / len(known) if known else None,
    }


def _texts_of(folder: Path) -> Iterator[tuple[str, str]]:
    """(text, frame) of the questions and prompts of a planned set; words of the frame do not count."""
    for row in map(read_row, iterate_entries(folder)):
        yield question_of(row), ""
        yield _content(row.messages), _content(row.closed_book)


def _content(messages: Iterable[Mapping[str, str]]) -> str:
    return "\n".join(message["content"] for message in messages)


def _read_overlap(folder: Path) -> dict[str, Any] | None:
    """The content of overlap.json; None without it, and if it was measured on other rows."""
    if not (folder / OVERLAP).is_file():
        return None
    overlap: dict[str, Any] = json.loads((folder / OVERLAP).read_text())
    current = json.loads((folder / RECORD).read_text())["data_sha256"]
    return overlap if overlap["data_sha256"] == current else None
