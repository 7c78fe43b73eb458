"""Validate training data before a run: file, row, column, value and fix of each problem.

`validate_file` is what the command (`validate.py`), the training data set (`dataset.py`) and the pipelines call. It
reads `ROW_GROUP_ROWS` rows at a time, so memory does not depend on the size of the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from verl_longrl.data.progress import progress_bar
from verl_longrl.data.prompt_lengths import CACHE_DIR, prompt_lengths
from verl_longrl.data.row_checks import check_row
from verl_longrl.data.schema import ROW_GROUP_ROWS, Sample, read_rows

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
            self.problems.append(f"{self.name}: {text}" if row is None else f"{self.name}: row {row}: {text}")

    def lines(self) -> list[str]:
        """The summary of a good file; otherwise the kept problems and how many more there are."""
        if self.ok:
            sources = ", ".join(f"{name} {n}" for name, n in sorted(self.sources.items()))
            known = [n for n in self.tokens if n is not None]
            tokens = f"; prompt tokens mean {sum(known) // len(known)}, longest {max(known)}" if known else ""
            return [f"{self.name}: ok, {self.rows} rows ({sources}){tokens}"]
        more = self.problem_count - len(self.problems)
        return self.problems + ([f"{self.name}: {more} more problems; show all with --max-errors 0"] if more else [])


def validate_rows(
    rows: Iterable[Sample | Mapping[str, Any]],
    *,
    name: str = "rows",
    max_errors: int = 20,
    prompt_key: str = "prompt",
    total: int = 0,
) -> ValidationReport:
    """Check rows (dicts or Samples) one by one. Repeated `extra_info.index` values are a warning."""
    report, indices, repeated = ValidationReport(name, max_errors), set(), 0
    with progress_bar(f"validating {Path(name).name}", total, "rows", log=False) as advance:
        for number, row in enumerate(rows):
            row = row.to_row() if isinstance(row, Sample) else row
            for problem in check_row(row, prompt_key):
                report.add(problem, number)
            report.rows += 1
            report.sources[str(row.get("data_source"))] += 1
            report.tokens.append(row.get("prompt_tokens"))
            extra = row.get("extra_info")
            if isinstance(extra, Mapping) and extra.get("index") is not None:
                repeated += str(extra["index"]) in indices
                indices.add(str(extra["index"]))
            advance(1)
    if not report.rows:
        report.add("no rows. Fix: write at least one sample")
    if repeated:
        report.warnings.append(f"{name}: extra_info.index: {repeated} rows repeat another row's index")
    return report


def validate_file(
    path: str | Path,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    max_prompt_length: int | None = None,
    max_errors: int = 20,
    prompt_key: str = "prompt",
    cache_dir: str | Path = CACHE_DIR,
) -> ValidationReport:
    """Check one parquet file, ours or released. Never raises for the content of the file.

    Args:
        tokenizer: count prompts with it, unless the file was written with this tokenizer. Otherwise the prompt lengths
            are those in the file.
        max_prompt_length: in tokens; longer prompts are problems.
        max_errors: the number of problem lines to keep; 0 keeps all.
    """
    name, report = str(path), ValidationReport(str(path), max_errors)
    if not Path(path).is_file():
        report.add("no such file. Fix: give the path of a parquet file")
        return report
    try:
        metadata = pq.read_metadata(path)
        schema = metadata.schema.to_arrow_schema()
        missing = _missing_columns(schema, prompt_key)
    except pa.ArrowInvalid as error:
        report.add(f"not a readable parquet file ({error}). Fix: write it with verl_longrl.data.schema.write_samples")
        return report
    for column, fix in missing.items():
        report.add(f"{column}: column is missing (columns: {', '.join(schema.names)}). Fix: {fix}")
    if missing:
        return report
    try:
        report = validate_rows(
            read_rows(path), name=name, max_errors=max_errors, prompt_key=prompt_key, total=metadata.num_rows
        )
    except (pa.ArrowException, OSError) as error:
        report.add(f"damaged: cannot be read to its end ({error}). Fix: write the file again")
        return report
    largest = max((metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)), default=0)
    if largest > ROW_GROUP_ROWS:
        report.warnings.append(
            f"{name}: row groups hold up to {largest} rows, expected at most {ROW_GROUP_ROWS} (a group of "
            "more than 2 GiB cannot be read). Fix: rewrite it with write_samples(path, read_samples(old))"
        )
    if report.ok and tokenizer is not None:
        report.tokens = prompt_lengths(
            path,
            tokenizer,
            chat_template_kwargs=chat_template_kwargs,
            cache_dir=cache_dir,
            prompt_key=prompt_key,
        ).tolist()
    if report.ok and max_prompt_length is not None:
        check_lengths(report, max_prompt_length)
    return report


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
