"""Find benchmarks by name and check the options of their rows before anything is read."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from recipe.longrl.evaluation.errors import EvaluationError
from recipe.longrl.evaluation.profiles import Slice
from recipe.longrl.evaluation.records import Benchmark, Row

DEVELOPMENT_SHARE = 5
"""One of this many clusters is in the development slice."""


class BenchmarkError(EvaluationError):
    """A benchmark is unknown, or one of its options or rows is wrong; the message has the fix."""


def find_benchmark(name: str) -> Benchmark:
    """A benchmark of this framework or of a tool, or the object MODULE:ATTRIBUTE. Raises BenchmarkError."""
    from recipe.longrl.evaluation.external import tools

    module, _, attribute = name.partition(":")
    if (tool := tools.find_tool(name)) is not None:
        return tools.describe_benchmark(tool, name)
    if attribute:
        return _import_benchmark(module, attribute)
    from recipe.longrl.evaluation.benchmarks import REGISTRY

    if name not in REGISTRY:
        raise BenchmarkError(
            f"benchmark = {name}: unknown. Fix: one of {', '.join(sorted(REGISTRY))}, or MODULE:ATTRIBUTE"
        )
    return REGISTRY[name]


def _import_benchmark(module: str, attribute: str) -> Benchmark:
    try:
        benchmark = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise BenchmarkError(f"benchmark = {module}:{attribute}: {error}. Fix: a module on PYTHONPATH") from error
    if not isinstance(benchmark, Benchmark):
        kind = type(benchmark).__name__
        raise BenchmarkError(f"benchmark = {module}:{attribute}: found {kind}. Fix: an object of class Benchmark")
    return benchmark


def check_options(benchmark: Benchmark, options: Mapping[str, Any]) -> None:
    """Raise BenchmarkError for an option that the benchmark's rows do not have."""
    parameters = _parameters(benchmark)
    for name, value in options.items():
        if parameters is not None and name not in parameters:
            known = ", ".join(sorted({*parameters} - {"tokenizer"}))
            raise BenchmarkError(
                f"options.{name} = {value!r}: {benchmark.name} has no such option. Fix: one of {known}"
            )


def read_rows(
    benchmark: Benchmark, options: Mapping[str, Any], tokenizer: Any, seed: int, part: Slice = "all"
) -> Iterator[Row]:
    """The rows of a slice with these options; `tokenizer` and `seed` are passed to benchmarks that take them.

    Raises BenchmarkError for an option that the benchmark does not have, and for two rows with one id.
    """
    check_options(benchmark, options)
    parameters = _parameters(benchmark)
    given = {"tokenizer": tokenizer, "seed": seed}
    passed = {name: value for name, value in given.items() if parameters is None or name in parameters}
    seen: set[str] = set()
    try:
        for row in benchmark.rows(**{**passed, **options}):
            if row.id in seen:
                raise BenchmarkError(f"{benchmark.name}: two rows have the id {row.id!r}. Fix: correct its reader")
            seen.add(row.id)
            if part in ("all", slice_of(row)):
                yield row
    except BenchmarkError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise BenchmarkError(f"{benchmark.name}: {error}") from error


def slice_of(row: Row) -> Slice:
    """The slice of a row, whatever the benchmark's options and the number of rows.

    All rows of a cluster (document, article, question) are in the same one, also across benchmarks that share it. Of
    rows without a cluster, such as generated ones, every fifth of those numbered 0, 1, ... is in development.
    """
    number = row.id.rpartition("/")[2]
    if not row.cluster and number.isdecimal():
        place = int(number) + 1
    else:
        name = f"slice/{row.cluster or row.id}"
        place = int.from_bytes(hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8).digest())
    return "reported" if place % DEVELOPMENT_SHARE else "development"


def _parameters(benchmark: Benchmark) -> set[str] | None:
    """The options of a benchmark's rows; None if it takes any."""
    parameters = inspect.signature(benchmark.rows).parameters
    return None if any(each.kind is each.VAR_KEYWORD for each in parameters.values()) else {*parameters}
