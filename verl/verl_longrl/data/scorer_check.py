"""Try the user's own scorers before training: import them, and call each once with an empty response.

They run as in training: in a separate process with a deadline, with the ground truth of a row and the run's options. So
a wrong signature, a wrong return type, a scorer that hangs, or a file that ends its process is found before a run
starts.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from verl_longrl.data.schema import decode_extra_info, decode_ground_truth, read_rows
from verl_longrl.data.validation import describe_unreadable
from verl_longrl.rewards.isolation.scorer_pool import IsolatedScorer
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.registry import Scorer, load_scorers, resolve
from verl_longrl.rewards.scoring import Job

EXPECTED = "(response, ground_truth, extra_info, options) -> Score"


@dataclass
class ScorerTrial:
    """The result of `try_scorers`."""

    tried: list[str] = field(default_factory=list)
    """Data sources whose scorer returned a score."""
    unused: list[str] = field(default_factory=list)
    """Names and patterns of scorers that score no row."""
    problems: list[str] = field(default_factory=list)
    """One line for each scorer that cannot be used."""


def try_scorers(options: RewardOptions, files: Iterable[str | Path]) -> ScorerTrial:
    """Load `options.scorers`, first in another process, then in this one, and call those that score rows of `files`.

    Files and rows that cannot be read are skipped: the validator reports them. Raises ImportError, with one line, when
    the scorers cannot be loaded.
    """
    trial = ScorerTrial()
    try:
        isolated = IsolatedScorer(replace(options, workers=1))
    except RuntimeError as error:
        message, sources = " ".join(str(error).split()), ", ".join(options.scorers)
        raise ImportError(message if sources in message else f"{sources}: {message}") from error
    with isolated:
        scorers = load_scorers(options.scorers)
        if not scorers:
            trial.problems.append(f"{', '.join(options.scorers)}: no @scorer(...) in it, so it scores nothing")
        called = set()
        for job in _jobs(options, files, scorers):
            function = resolve(job.data_source)
            called.add(function)
            score = isolated.score_for_each_verdict_blocking(job)[0]
            if score.failed:
                call = f"{_describe(job.data_source, function)}, called with an empty response: {score.status}"
                trial.problems.append(f"{call}, {score.reason}; expected {EXPECTED}")
            else:
                trial.tried.append(job.data_source)
    for name, function in scorers.items():
        if function not in called:
            trial.unused.append(name)
            if problem := _signature_problem(function):
                trial.problems.append(f"{_describe(name, function)}: {problem}; expected {EXPECTED}")
    return trial


def _jobs(options: RewardOptions, files: Iterable[str | Path], scorers: dict[str, Scorer]) -> list[Job]:
    """An empty response to the first readable row of each data source that one of `scorers` scores."""
    jobs: dict[str, Job] = {}
    others: set[object] = set()
    for file in files:
        if describe_unreadable(file):
            continue
        try:
            for row in read_rows(file, ["data_source", "reward_model", "extra_info"]):
                source = row.get("data_source")
                if source in jobs or source in others:
                    continue
                if not _is_among(source, scorers):
                    others.add(source)
                elif (job := _job(row, options)) is not None:
                    jobs[job.data_source] = job
        except (pa.ArrowException, OSError, ValueError, OverflowError, RecursionError):
            continue
    return list(jobs.values())


def _is_among(source: Any, scorers: dict[str, Scorer]) -> bool:
    try:
        return isinstance(source, str) and resolve(source) in scorers.values()
    except LookupError:
        return False


def _job(row: dict[str, Any], options: RewardOptions) -> Job | None:
    try:
        truth, extra = decode_ground_truth(row["reward_model"]), decode_extra_info(row.get("extra_info"))
    except (KeyError, TypeError, ValueError):
        return None
    return Job(row["data_source"], "", truth, extra, options)


def _signature_problem(function: Scorer) -> str | None:
    """The reason why a scorer cannot be called with the arguments of a scorer; None if it can."""
    try:
        inspect.signature(function).bind("", "", {}, RewardOptions())
    except TypeError as error:
        return str(error)
    return None


def _describe(source: str, function: Scorer) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"the scorer of {source!r}" + (f" ({code.co_filename}:{code.co_firstlineno})" if code else "")
