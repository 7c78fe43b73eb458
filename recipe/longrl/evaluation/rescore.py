"""Score LongRLVR's released outputs again: published, official and strict rules next to each other, with errors.

    python -m recipe.longrl.evaluation rescore FOLDER --json figures.json

FOLDER is `eval_results` of the release, its parent, or the folder of one set in it:

    RULER/<model>_longrlvr/synthetic/{32768,65536,131072}/pred/{qa_1.jsonl,qa_2.jsonl,submission.csv,summary.csv}
    LongBench/<model>_longrlvr.jsonl
    LongReason/<model>_{32,64,128}k.jsonl

An answer is the text in the last closed <answer> block, wherever it is. The tail is the text after the last `</think>`
without closed <useful_chunks> blocks. The rules:

| set | rule | a row is right when |
|---|---|---|
| RULER | published | a reference is a substring, in lower case, of all that was generated |
| RULER | submission | ... of the column Prediction of submission.csv |
| RULER | answer_or_tail | ... of the answer, or of the tail without one |
| RULER | strict | ... of the answer |
| RULER | after_think | ... of an answer that is after the last `</think>` |
| LongBench | published | the stored field `judge` says so |
| LongBench | letter | LongBench v2's parser finds the key in the whole response |
| LongBench | letter_comp | the same, and a row without a letter earns 0.25 |
| LongBench | strict | the parser's last match in the answer, or in the tail without one, is the key |
| LongReason | published | the key letter is a substring of `pred` |
| LongReason | no_tags | ... of `pred` without citations and tags |
| LongReason | strict | the answer, or the tail of `pred`, names one option as a word of its own, and it is the key |

Figures are in per cent. Groups: RULER has its cells ("qa_1/32768") and their "mean"; LongBench "overall", difficulties
and lengths; LongReason "overall" and the key letters, and each model, in addition to its files, the "mean" of its three
lengths. A mean is given only when all of its cells are there. Errors are standard errors: of a mean, clustered by
question, since each question is asked at three lengths; of a cell, of independent rows. Where all rows have the same
score, the table has Wilson's 95 % interval instead.

The rule `published` of a RULER cell is checked against its summary.csv. The CSV files may also be one folder higher.

A file with a missing or damaged row gives no figures, because a figure of the rest would be another one. It is reported
with the row, and all other files are scored.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.table import Table
from verl_longrl.trainer.checkpoints import write_atomic

from recipe.longrl.evaluation.rules.letters import CHANCE
from recipe.longrl.evaluation.rules.reading import after_think, last_answer_block, tail, without_citations
from recipe.longrl.evaluation.rules.ruler import share_found
from recipe.longrl.evaluation.statistics import clustered_standard_error, stratified_standard_error, wilson

Record = dict[str, Any]
Figures = dict[str, dict[str, dict[str, dict[str, dict[str, float]]]]]
"""{set: {file or model: {cell or group: {rule: {"n": rows, "score": per cent}}}}}."""

SETS = ("RULER", "LongBench", "LongReason")
RULER_LENGTHS, RULER_TASKS = ("32768", "65536", "131072"), ("qa_1", "qa_2")
LONGREASON_LENGTHS = ("32k", "64k", "128k")
_LONGREASON_NAME = re.compile(r"(.+)_(\d+k)")
_TAG = re.compile(r"</?answer>|<CHUNK_[0-9]+>")
_LABEL = re.compile(r"\b[A-E]\b")
_CHOICES = (re.compile(r"The correct answer is \(([A-D])\)"), re.compile(r"The correct answer is ([A-D])"))
_SHOWN_PROBLEMS = 3
"""Problems of one file that are listed; the rest is counted."""
_TABLE_WIDTH = 250
_ROUNDING = 0.005 + 1e-9
"""summary.csv has two decimals."""


class ScoredRow(NamedTuple):
    """A row under all rules of its set, each score in [0, 1]."""

    question: str
    groups: tuple[str, ...]
    scores: dict[str, float]


class Figure(NamedTuple):
    """The mean of one rule over one group."""

    set: str
    file: str
    group: str
    rule: str
    n: int
    score: float
    """Per cent."""
    error: float
    """Standard error in percentage points; nan where it is unknown."""


def answer_or_tail(text: str) -> str:
    """The text in the last closed <answer> block, or the tail without one."""
    answer = last_answer_block(text)
    return tail(text) if answer is None else answer


def ruler_scores(generated: str, references: list[str]) -> dict[str, float]:
    """A RULER row under the rules that need the generation only."""
    texts = {
        "published": generated,
        "answer_or_tail": answer_or_tail(generated),
        "strict": last_answer_block(generated) or "",
        "after_think": last_answer_block(after_think(generated)) or "",
    }
    return {rule: _has_reference(text, references) for rule, text in texts.items()}


def longbench_scores(record: Record) -> dict[str, float]:
    """A LongBench v2 row under all rules."""
    response, key = record["response"] or "", record["answer"].strip()
    letters = choices(response)
    letter = float(letters[:1] == [key])
    return {
        "published": float(record["judge"]),
        "letter": letter,
        "letter_comp": letter if letters else CHANCE,
        "strict": float(choices(answer_or_tail(response))[-1:] == [key]),
    }


def longreason_scores(record: Record) -> dict[str, float]:
    """A LongReason row under all rules."""
    text, key = record["pred"] or "", record["answer"].strip()
    return {
        "published": float(key in text),
        "no_tags": float(key in _TAG.sub("", without_citations(text))),
        "strict": float(set(_LABEL.findall(answer_or_tail(text))) == {key}),
    }


def choices(text: str) -> list[str]:
    """The letters of "The correct answer is (X)", or without any of "The correct answer is X"; stars are removed."""
    text = text.replace("*", "")
    return _CHOICES[0].findall(text) or _CHOICES[1].findall(text)


def rescore(folder: Path | str) -> Figures:
    """All figures of a release, as `command` writes them with --json; damaged files are left out.

    Raises ValueError when the folder is not a release.
    """
    figures, _ = read_release(Path(folder))
    return as_json(figures)


def as_json(figures: Iterable[Figure]) -> Figures:
    """Figures as nested dicts, in their order. The scores are not rounded."""
    nested: Figures = {name: {} for name in SETS}
    for figure in figures:
        groups = nested[figure.set].setdefault(figure.file, {})
        groups.setdefault(figure.group, {})[figure.rule] = {"n": figure.n, "score": figure.score}
    return nested


def read_release(folder: Path) -> tuple[list[Figure], list[str]]:
    """The figures of a release, and the problems of its files.

    Raises ValueError when the folder is not one of the three sets and does not hold one.
    """
    release = _Release(*_find_sets(folder))
    readers = {"RULER": release.ruler, "LongBench": release.longbench, "LongReason": release.longreason}
    figures = [figure for name in release.sets for figure in readers[name]()]
    return figures, [*release.problems, *release.missing_models()]


def _find_sets(folder: Path) -> tuple[Path, Sequence[str]]:
    """The folder that has the sets, and those to read."""
    for root in (folder / "eval_results", folder):
        if any((root / name).is_dir() for name in SETS):
            return root, SETS
    whole = folder.resolve()
    if whole.is_dir() and whole.name in SETS:
        return whole.parent, (whole.name,)
    raise ValueError(
        f"folder = {str(folder)!r}: holds none of RULER, LongBench and LongReason. "
        "Fix: give the folder eval_results of LongRLVR's release"
    )


class _Field(NamedTuple):
    """The requirement on a field of a row."""

    expected: str
    is_valid: Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_TEXT = _Field("text", _is_text)
_TEXT_OR_NULL = _Field("text or null", lambda value: value is None or _is_text(value))
_RULER_FIELDS = {
    "index": _Field("a number", lambda value: type(value) is int),
    "pred": _TEXT_OR_NULL,
    "outputs": _Field(
        "a list of texts", lambda value: isinstance(value, list) and value != [] and all(map(_is_text, value))
    ),
}
_LONGBENCH_FIELDS = {
    "_id": _TEXT,
    "difficulty": _TEXT,
    "length": _TEXT,
    "answer": _Field("a letter from A to D", lambda value: _is_text(value) and value.strip() in set("ABCD")),
    "response": _TEXT_OR_NULL,
    "judge": _Field("true or false", lambda value: isinstance(value, bool)),
}
_LONGREASON_FIELDS = {
    "example_idx": _Field("a number or text", lambda value: _is_text(value) or type(value) is int),
    "pred": _TEXT_OR_NULL,
    "answer": _Field("a letter from A to E", lambda value: _is_text(value) and value.strip() in set("ABCDE")),
}


class _Release:
    """The files of a release; their problems are collected while it is read."""

    def __init__(self, root: Path, sets: Sequence[str]):
        self.root, self.sets = root, sets
        self.problems: list[str] = []
        self._models: dict[str, set[str]] = {name: set() for name in sets}

    def ruler(self) -> Iterator[Figure]:
        for model in sorted(path for path in self.root.glob("RULER/*") if path.is_dir()):
            self._models["RULER"].add(_plain_name(model.name))
            cells = {}
            for length in RULER_LENGTHS:
                folder = model / "synthetic" / length / "pred"
                submission = self._submission(_beside(folder, "submission.csv"))
                for task in RULER_TASKS:
                    cells[f"{task}/{length}"] = self._ruler_cell(folder / f"{task}.jsonl", submission)
                self._check_summary(
                    _beside(folder, "summary.csv"), {task: cells[f"{task}/{length}"] for task in RULER_TASKS}
                )
            for cell, rows in cells.items():
                yield from figures_of_group("RULER", model.name, cell, rows)
            yield from figures_of_mean("RULER", model.name, cells)

    def longbench(self) -> Iterator[Figure]:
        for path in sorted(self.root.glob("LongBench/*.jsonl")):
            self._models["LongBench"].add(_plain_name(path.stem))
            rows = [
                ScoredRow(record["_id"], ("overall", record["difficulty"], record["length"]), longbench_scores(record))
                for record in self._records(path, _LONGBENCH_FIELDS)
            ]
            yield from figures_of_file("LongBench", path.stem, rows)

    def longreason(self) -> Iterator[Figure]:
        models: defaultdict[str, dict[str, list[ScoredRow]]] = defaultdict(dict)
        for path in sorted(self.root.glob("LongReason/*.jsonl"), key=_by_length):
            if not (name := _LONGREASON_NAME.fullmatch(path.stem)):
                self._report(path, "the name does not end with a length such as _32k")
                continue
            rows = [
                ScoredRow(str(record["example_idx"]), ("overall", record["answer"].strip()), longreason_scores(record))
                for record in self._records(path, _LONGREASON_FIELDS)
            ]
            models[name[1]][name[2]] = rows
            yield from figures_of_file("LongReason", path.stem, rows)
        for model, lengths in models.items():
            self._models["LongReason"].add(_plain_name(model))
            for length in LONGREASON_LENGTHS:
                if length not in lengths:
                    self._report(self.root / "LongReason" / f"{model}_{length}.jsonl", "no such file")
            yield from figures_of_mean("LongReason", model, {key: lengths.get(key, []) for key in LONGREASON_LENGTHS})

    def missing_models(self) -> list[str]:
        """A model that one set has and another lacks."""
        everywhere = sorted(set().union(*self._models.values()))
        return [
            f"{self.root / name}: no file of the model {model}"
            for name, models in self._models.items()
            for model in everywhere
            if model not in models
        ]

    def _ruler_cell(self, path: Path, submission: Mapping[tuple[str, str], list[str]]) -> list[ScoredRow]:
        """The rows of a cell. Without a prediction for each row, the cell has no rule `submission`."""
        records = self._records(path, _RULER_FIELDS)
        counts: defaultdict[str, int] = defaultdict(int)
        rows, without = [], []
        for number, record in enumerate(records, 1):
            index = str(record["index"])
            scores = ruler_scores(record["pred"] or "", record["outputs"])
            # An index that appears twice takes the predictions in their order.
            predictions = submission.get((path.stem, index), [])[counts[index] :]
            counts[index] += 1
            if predictions:
                scores["submission"] = _has_reference(predictions[0], record["outputs"])
            else:
                without.append(f"row {number}: Task = {path.stem}, ID = {index} is not in submission.csv")
            rows.append(ScoredRow(f"{path.stem}/{index}", (), scores))
        if submission and without:
            self._report(path, *without)
        if without:
            rows = [row._replace(scores=_without(row.scores, "submission")) for row in rows]
        return rows

    def _submission(self, path: Path) -> dict[tuple[str, str], list[str]]:
        """(task, id) -> predictions, in the order of the file; {} where it cannot be read."""
        predictions: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        # A prediction may be longer than csv's default limit, 131,072 characters.
        csv.field_size_limit(2**31 - 1)
        try:
            with path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                missing = {"Task", "ID", "Prediction"} - set(reader.fieldnames or ())
                if missing:
                    self._report(path, f"no column {', '.join(sorted(missing))}")
                    return {}
                for number, line in enumerate(reader, 1):
                    if line["Prediction"] is None:
                        self._report(path, f"row {number}: has fewer than three columns")
                        return {}
                    predictions[line["Task"], line["ID"]].append(line["Prediction"])
        except (OSError, ValueError, csv.Error) as error:
            self._report(path, _reason(error))
            return {}
        return predictions

    def _check_summary(self, path: Path, cells: Mapping[str, list[ScoredRow]]) -> None:
        """Report a cell whose published figure is not the one in summary.csv (lines: Tasks, Score, Nulls)."""
        try:
            lines = {line[0]: line[1:] for line in csv.reader(path.read_text("utf-8").splitlines()) if line}
            scores = dict(zip(lines["Tasks"], map(float, lines["Score"]), strict=True))
        except (OSError, ValueError, KeyError, csv.Error) as error:
            self._report(path, _reason(error))
            return
        for task, rows in cells.items():
            score = 100 * sum(row.scores["published"] for row in rows) / max(1, len(rows))
            if rows and abs(score - scores.get(task, score)) > _ROUNDING:
                self._report(path, f"{task} = {scores[task]}: the published rule gives {score:.2f}")

    def _records(self, path: Path, fields: Mapping[str, _Field]) -> list[Record]:
        """The rows of a JSON Lines file; none if a row is damaged, which is reported."""
        records, damaged = [], []
        try:
            lines = path.read_bytes().split(b"\n")
        except OSError as error:
            self._report(path, _reason(error))
            return []
        if lines[0].startswith(b"version https://git-lfs"):
            self._report(path, "is a Git LFS pointer. Fix: git lfs pull")
            return []
        for number, line in enumerate(lines, 1):
            if line.strip():
                record, problem = _parse_record(line, fields)
                records.append(record)
                damaged.extend([f"row {number}: {problem}"] if problem else [])
        if damaged or not records:
            self._report(path, *(damaged or ["has no rows"]))
            return []
        return records

    def _report(self, path: Path, *problems: str) -> None:
        self.problems.extend(f"{path}: {problem}" for problem in problems[:_SHOWN_PROBLEMS])
        if len(problems) > _SHOWN_PROBLEMS:
            self.problems.append(f"{path}: and {len(problems) - _SHOWN_PROBLEMS} more rows like these")


def _parse_record(line: bytes, fields: Mapping[str, _Field]) -> tuple[Record, str]:
    """The row, and the first problem that it has ("" if none)."""
    try:
        record = json.loads(line)
    except UnicodeDecodeError as error:
        return {}, f"is not UTF-8 text (byte {error.start})"
    except (ValueError, RecursionError):
        return {}, "is not JSON"
    if not isinstance(record, dict):
        return {}, f"is a {type(record).__name__}, expected an object"
    for name, field in fields.items():
        if name not in record:
            return {}, f"{name} is missing, expected {field.expected}"
        if not field.is_valid(record[name]):
            return {}, f"{name} = {str(record[name])[:40]!r}: expected {field.expected}"
    return record, ""


def figures_of_file(set_name: str, file: str, rows: list[ScoredRow]) -> Iterator[Figure]:
    """The figures of each group that rows of a file belong to, "overall" first."""
    groups = dict.fromkeys(group for row in rows for group in row.groups)
    for group in sorted(groups, key=lambda group: (group != "overall", group)):
        yield from figures_of_group(set_name, file, group, [row for row in rows if group in row.groups])


def figures_of_group(set_name: str, file: str, group: str, rows: list[ScoredRow]) -> Iterator[Figure]:
    """The mean of each rule over rows; rows of one question are one cluster."""
    questions = [row.question for row in rows]
    for rule in rows[0].scores if rows else ():
        scores = [row.scores[rule] for row in rows]
        error = clustered_standard_error(scores, questions)
        yield Figure(set_name, file, group, rule, len(rows), 100 * sum(scores) / len(rows), 100 * error)


def figures_of_mean(set_name: str, file: str, cells: Mapping[str, list[ScoredRow]]) -> Iterator[Figure]:
    """The mean of the cells' means, of each rule that every cell has; nothing when a cell is missing."""
    if not all(cells.values()):
        return
    rows = [(cell, row) for cell, members in cells.items() for row in members]
    for rule in rows[0][1].scores:
        if not all(rule in row.scores for _, row in rows):
            continue
        means = [sum(row.scores[rule] for row in members) / len(members) for members in cells.values()]
        error = stratified_standard_error(
            [row.scores[rule] for _, row in rows], [cell for cell, _ in rows], [row.question for _, row in rows]
        )
        yield Figure(set_name, file, "mean", rule, len(rows), 100 * sum(means) / len(means), 100 * error)


def table_of(figures: Iterable[Figure]) -> Table:
    """One line for each group, one column for each rule: score ± standard error."""
    lines: defaultdict[tuple[str, str, str, int], dict[str, str]] = defaultdict(dict)
    rules: dict[str, None] = {}
    for figure in figures:
        rules.setdefault(figure.rule)
        line = lines[figure.set, figure.file, figure.group, figure.n]
        line[figure.rule] = f"{figure.score:.2f} {_uncertainty(figure)}"
    table = Table(title="per cent ± standard error, or [95 % interval]", title_justify="left")
    for column in ("set", "file or model", "group"):
        table.add_column(column, no_wrap=True)
    for column in ("n", *rules):
        table.add_column(column, justify="right", no_wrap=True)
    for (*names, n), scores in lines.items():
        table.add_row(*names, str(n), *(scores.get(rule, "") for rule in rules))
    return table


def _uncertainty(figure: Figure) -> str:
    """± standard error, or Wilson's 95 % interval where all rows have one score: that does not prove an error of 0."""
    if figure.error > 0:
        return f"±{figure.error:.1f}"
    low, high = wilson(figure.score / 100 * figure.n, figure.n)
    return f"[{100 * low:.0f}, {100 * high:.0f}]"


def command(
    folder: Annotated[
        Path, typer.Argument(help="The folder eval_results of LongRLVR's release, its parent, or one set.")
    ],
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")] = None,
) -> None:
    """Score LongRLVR's released outputs by published, official and strict rules, with standard errors.

    Damaged and missing files are listed at the end. The exit code is 1 only if nothing could be scored.
    """
    try:
        figures, problems = read_release(folder)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    # In a pipe or a narrow terminal, rich would cut figures off; a long line only wraps.
    Console(width=_TABLE_WIDTH).print(table_of(figures))
    for problem in problems:
        print(f"problem: {problem}", file=sys.stderr)
    if json_path:
        write_atomic(json_path, json.dumps(as_json(figures), indent=2, allow_nan=False) + "\n")
    if not figures:
        raise typer.Exit(1)


def _has_reference(text: str, references: list[str]) -> float:
    return float(share_found(text, references) > 0)


def _without(scores: dict[str, float], rule: str) -> dict[str, float]:
    return {name: score for name, score in scores.items() if name != rule}


def _beside(folder: Path, name: str) -> Path:
    """The file in the folder `pred`, where RULER's scripts write it, or one folder higher."""
    higher = folder.parent / name
    return higher if higher.is_file() else folder / name


def _plain_name(name: str) -> str:
    """The model in a name; some files have the suffix _longrlvr and some do not."""
    return name.removesuffix("_longrlvr")


def _by_length(path: Path) -> tuple[str, int]:
    name = _LONGREASON_NAME.fullmatch(path.stem)
    return (name[1], int(name[2][:-1])) if name else (path.stem, 0)


def _reason(error: Exception) -> str:
    """The reason why a file cannot be read."""
    return "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
