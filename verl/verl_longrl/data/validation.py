"""Validate training data before a run: file, row, column, value and fix of each problem.

`validate_file` is what the command (`validate.py`), the training data set (`dataset.py`) and the pipelines call. It
reads `ROW_GROUP_ROWS` rows at a time, so memory does not depend on the size of the file.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from verl_longrl.data.gold_checks import SlowGolds
from verl_longrl.data.progress import progress_bar
from verl_longrl.data.prompt_lengths import CACHE_DIR, prompt_lengths
from verl_longrl.data.row_checks import RowProblem, check_row, describe_gold_error, shorten
from verl_longrl.data.schema import ROW_GROUP_ROWS, Sample, find_unfit, read_sample, sample_columns
from verl_longrl.printable import one_line
from verl_longrl.special_tokens import COMMON, SpecialTokenFinder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass
class ValidationReport:
    """The result of validating one file.

    Attributes:
        problems: the first `max_errors` problem lines; `problem_count` counts all.
        warnings: lines about things that work but should be improved.
        sources: rows per data_source.
        tokens: length of each prompt in tokens, None where unknown.
    """

    name: str
    max_errors: int = 0
    rows: int = 0
    problem_count: int = 0
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    sources: Counter[str] = field(default_factory=Counter)
    tokens: list[int | None] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.problem_count == 0

    def add(self, text: object, row: int | None = None) -> None:
        """Count a problem, and keep its line unless `max_errors` (0: no limit) are kept already."""
        self.problem_count += 1
        if not self.max_errors or len(self.problems) < self.max_errors:
            place = self.name if row is None else f"{self.name}: row {row}"
            self.problems.append(one_line(f"{place}: {text}"))

    def lines(self) -> list[str]:
        """The summary of a good file; otherwise the kept problems and how many more there are."""
        if self.ok:
            sources = ", ".join(f"{name} {n}" for name, n in sorted(self.sources.items()))
            known = [n for n in self.tokens if n is not None]
            tokens = f"; prompt tokens mean {sum(known) // len(known)}, longest {max(known)}" if known else ""
            return [one_line(f"{self.name}: ok, {self.rows} rows ({sources}){tokens}")]
        more = self.problem_count - len(self.problems)
        return self.problems + ([f"{self.name}: {more} more problems; show all with --max-errors 0"] if more else [])


def validate_rows(
    rows: Iterable[Sample | Mapping[str, Any] | RowProblem],
    *,
    name: str = "rows",
    max_errors: int = 20,
    prompt_key: str = "prompt",
    total: int = 0,
    special_tokens: SpecialTokenFinder = COMMON,
) -> ValidationReport:
    """Check rows one by one: dicts, Samples, or the problem with a row that cannot be read.

    A row without a problem is also converted as it is for training, so that what passes can be loaded. Repeated
    `extra_info.index` values are a warning. special_tokens: those that no message may contain.
    """
    report, indices, repeated = ValidationReport(name, max_errors), set(), 0
    encoded: dict[int, dict[str, Any]] = {}
    slow_golds = SlowGolds()
    with progress_bar(f"validating {Path(name).name}", total, "rows", log=False) as advance:
        for number, row in enumerate(rows):
            report.rows += 1
            advance(1)
            if isinstance(row, RowProblem):
                report.add(row, number)
                continue
            try:
                row = row.to_row() if isinstance(row, Sample) else row
            except ValueError as error:
                report.add(RowProblem("payload", str(error), "write values of strict JSON"), number)
                continue
            for problem in _check_and_encode(row, number, prompt_key, special_tokens, slow_golds, encoded):
                report.add(problem, number)
            if len(encoded) == ROW_GROUP_ROWS:
                _report_unfit(report, encoded)
            source = row.get("data_source")
            report.sources[source if isinstance(source, str) else shorten(source)] += 1
            report.tokens.append(row.get("prompt_tokens"))
            if (index := _index(row)) is not None:
                repeated += index in indices
                indices.add(index)
        _report_unfit(report, encoded)
    if not report.rows:
        report.add("no rows. Fix: write at least one sample")
    if repeated:
        report.warnings.append(f"{name}: extra_info.index: {repeated} rows repeat another row's index")
    return report


def _check_and_encode(
    row: Mapping[str, Any],
    number: int,
    prompt_key: str,
    special_tokens: SpecialTokenFinder,
    slow_golds: SlowGolds,
    encoded: dict[int, dict[str, Any]],
) -> list[RowProblem]:
    """All problems of one row. One without a problem is put into `encoded`, as it is loaded for training.

    Never raises for what is in the row.
    """
    try:
        if problems := check_row(row, prompt_key, special_tokens):
            return problems
        sample = read_sample(row, number, prompt_key)
        if slow := slow_golds.find(sample.data_source, sample.ground_truth):
            return [describe_gold_error(slow)]
        # The types of the prompt have been checked.
        encoded[number] = sample.to_row() | {"prompt": []}
    except Exception as error:  # noqa: BLE001  the boundary: a row may hold anything
        problem = f"cannot be loaded ({type(error).__name__}: {shorten(str(error), 200)})"
        return [RowProblem("row", problem, "write it with write_samples, or drop it")]
    return []


def _report_unfit(report: ValidationReport, encoded: dict[int, dict[str, Any]]) -> None:
    """Report the rows with a value that the training data set cannot hold, and empty `encoded`."""
    while unfit := find_unfit(list(encoded.values())):
        number = list(encoded)[unfit.row]
        value = f"{shorten(unfit.value)} ({type(unfit.value).__name__})"
        fix = f"write a value that fits the column's type, {unfit.kind}"
        report.add(RowProblem(unfit.column, "cannot be loaded", fix, value), number)
        del encoded[number]
    encoded.clear()


def _index(row: Mapping[str, Any]) -> str | None:
    extra = row.get("extra_info")
    index = extra.get("index") if isinstance(extra, Mapping) else None
    return str(index) if isinstance(index, str | int | float) else None


def validate_file(
    path: str | Path,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    max_prompt_length: int | None = None,
    max_errors: int = 20,
    prompt_key: str = "prompt",
    cache_dir: str | Path = CACHE_DIR,
    special_tokens: SpecialTokenFinder | None = None,
) -> ValidationReport:
    """Check one parquet file, ours or released. Never raises for the path or the content of the file.

    Args:
        tokenizer: count prompts with it, unless the file was written with this tokenizer. Otherwise the prompt lengths
            are those in the file.
        special_tokens: those that no message may contain; by default those of `tokenizer`, or without one those of
            common chat formats.
        max_prompt_length: in tokens; longer prompts are problems.
        max_errors: the number of problem lines to keep; 0 keeps all.
    """
    name, report = str(path), ValidationReport(str(path), max_errors)
    if problem := describe_unreadable(path):
        report.add(f"{problem}. Fix: give the path of a parquet file")
        return report
    try:
        metadata = pq.read_metadata(path)
        schema = metadata.schema.to_arrow_schema()
        missing = _missing_columns(schema, prompt_key)
    except Exception as error:  # noqa: BLE001  the boundary: a damaged footer makes pyarrow raise anything
        problem = f"not a readable parquet file ({shorten(str(error), 200)})"
        report.add(f"{problem}. Fix: write it with verl_longrl.data.schema.write_samples")
        return report
    for column, fix in missing.items():
        report.add(f"{column}: column is missing (columns: {', '.join(schema.names)}). Fix: {fix}")
    if missing:
        return report
    if special_tokens is None:
        special_tokens = SpecialTokenFinder.of_tokenizer(tokenizer) if tokenizer else COMMON
    try:
        report = validate_rows(
            _read_rows_or_problems(path, prompt_key),
            name=name,
            max_errors=max_errors,
            prompt_key=prompt_key,
            total=metadata.num_rows,
            special_tokens=special_tokens,
        )
    except Exception as error:  # noqa: BLE001  the boundary: damaged pages make pyarrow raise anything
        report.add(f"damaged: cannot be read to its end ({shorten(str(error), 200)}). Fix: write the file again")
        return report
    largest = max((metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)), default=0)
    if largest > ROW_GROUP_ROWS:
        report.warnings.append(
            f"{name}: row groups hold up to {largest} rows, expected at most {ROW_GROUP_ROWS} (a group of "
            "more than 2 GiB cannot be read). Fix: rewrite it with write_samples(path, read_samples(old))"
        )
    if report.ok and tokenizer is not None:
        try:
            report.tokens = prompt_lengths(
                path,
                tokenizer,
                chat_template_kwargs=chat_template_kwargs,
                cache_dir=cache_dir,
                prompt_key=prompt_key,
            ).tolist()
        except ValueError as error:
            report.add(str(error).removeprefix(f"{path}: "))
    if report.ok and max_prompt_length is not None:
        check_lengths(report, max_prompt_length)
    return report


def describe_unreadable(path: str | Path) -> str | None:
    """The reason why a path is not that of a file that can be read, in words. A pipe is not opened: that would wait."""
    try:
        kind = os.stat(path).st_mode
    except FileNotFoundError:
        return "no such file"
    except (OSError, ValueError) as error:
        # A loop of links, a folder that may not be entered, a NUL character in the path.
        return f"cannot be read ({getattr(error, 'strerror', None) or error})"
    if stat.S_ISDIR(kind):
        return "is a folder"
    return None if stat.S_ISREG(kind) else "is not a regular file (a pipe, socket or device)"


def _read_rows_or_problems(path: str | Path, prompt_key: str) -> Iterator[dict[str, Any] | RowProblem]:
    """The rows of a file, with the problem instead of a row that cannot be decoded, such as one with invalid UTF-8."""
    columns = sample_columns(path, prompt_key)
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ROW_GROUP_ROWS, columns=columns):
            try:
                yield from batch.to_pylist()
            except (ValueError, OverflowError, RecursionError):
                yield from (_decode_row(batch.slice(i, 1)) for i in range(batch.num_rows))


def _decode_row(row: pa.RecordBatch) -> dict[str, Any] | RowProblem:
    decoded = {}
    for column in row.schema.names:
        try:
            (decoded[column],) = row.column(column).to_pylist()
        except (ValueError, OverflowError, RecursionError) as error:
            problem = f"cannot be decoded ({type(error).__name__}: {shorten(str(error), 100)})"
            return RowProblem(column, problem, "write UTF-8 text, and times that Python can hold")
    return decoded


def check_lengths(report: ValidationReport, max_prompt_length: int) -> None:
    """Make every prompt longer than `max_prompt_length` tokens a problem of `report`."""
    unknown = 0
    for row, tokens in enumerate(report.tokens):
        if tokens is None:
            unknown += 1
        elif tokens > max_prompt_length:
            report.add(
                f"prompt_tokens = {tokens}: more than max_prompt_length = {max_prompt_length}, and a prompt is never "
                "truncated. Fix: build the data with shorter documents, raise data.max_prompt_length, or drop such "
                "rows with data.filter_overlong_prompts=True",
                row,
            )
    if unknown:
        report.add(f"prompt_tokens: missing in {unknown} rows. Fix: pass --tokenizer to count them")


def _missing_columns(schema: pa.Schema, prompt_key: str) -> dict[str, str]:
    """Column -> fix, for the required columns that the file lacks."""
    fixes = {
        "data_source": "add the name of the scorer",
        prompt_key: "add a list of {role, content}",
        "reward_model": "add a struct with ground_truth",
    }
    missing = {column: fix for column, fix in fixes.items() if column not in schema.names}
    if "reward_model" in schema.names:
        kind = schema.field("reward_model").type
        if not pa.types.is_struct(kind) or kind.get_field_index("ground_truth") < 0:
            missing["reward_model.ground_truth"] = "add the reference answer"
    return missing
