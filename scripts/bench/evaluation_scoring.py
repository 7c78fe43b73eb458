"""Measure what it costs to apply rules in a process of their own, and how long the look for overlap takes.

    python scripts/bench/evaluation_scoring.py --output docs/results/evaluation_scoring.json

Scoring: 10,000 answers to questions of RULER-QA at 4,096 tokens under its four rules, once by calls in this process and
once as `score` does it. Overlap: a parquet file of 1,000 rows of 32K tokens of made-up words against AA-LCR. Seconds
are those of the CPU, because the machine may be shared. Needs the wheels of `python -m recipe.longrl.evaluation fetch`
and no GPU; takes some minutes.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from verl_longrl.data.jsonl import encode_line
from verl_longrl.rewards.isolation import cpu_deadline

from data_gen.tokenizer import BUILTIN, load_tokenizer
from recipe.longrl.evaluation.benchmarks.registry import REGISTRY
from recipe.longrl.evaluation.contamination import write_overlap
from recipe.longrl.evaluation.records import Row
from recipe.longrl.evaluation.rule_runner import BATCH, RuleRunner, apply_rules

ANSWERS, ROWS, WORDS = 10_000, 1_000, 24_000
"""24,000 English words are about 32K tokens."""


def measure_scoring(count: int) -> dict[str, float]:
    """CPU seconds for all answers in this process, and in one of their own, that of both processes together."""
    benchmark = REGISTRY["ruler_qa"]
    rows = [*benchmark.rows(tokenizer=load_tokenizer(BUILTIN), lengths=[4096], samples=50)]
    answers = [(_answer(row), row) for row in (rows[number % len(rows)] for number in range(count))]
    batches = [answers[start : start + BATCH] for start in range(0, count, BATCH)]
    runner = RuleRunner("ruler_qa")
    runner.apply(batches[0])
    started = time.process_time()
    for batch in batches:
        apply_rules("ruler_qa", batch, [*benchmark.rules])
    here = time.process_time() - started
    started = time.process_time() + cpu_deadline.run(time.process_time, seconds=5)
    for batch in batches:
        runner.apply(batch)
    apart = time.process_time() + cpu_deadline.run(time.process_time, seconds=5) - started
    return {
        "answers": count,
        "in_this_process_s": round(here, 2),
        "in_its_own_process_s": round(apart, 2),
        "ratio": round(apart / here, 3),
    }


def measure_overlap(count: int, folder: Path) -> dict[str, float]:
    """CPU seconds and the greatest memory of the look for AA-LCR's n-grams in a file of `count` rows."""
    out = folder / "aa_lcr"
    out.mkdir()
    with (out / "rows.jsonl").open("wb") as file:
        for row in REGISTRY["aa_lcr"].rows():
            file.write(encode_line({"row": row.__dict__}))
    (out / "plan.json").write_text(json.dumps({"data_sha256": ""}))
    generator = random.Random(0)
    vocabulary = ["".join(generator.choices("abcdefghijklmnopqrstuvwxyz", k=5)) for _ in range(20_000)]
    schema = pa.schema({"prompt": pa.string()})
    with pq.ParquetWriter(folder / "train.parquet", schema) as writer:
        for _ in range(count):
            writer.write_table(pa.table({"prompt": [" ".join(generator.choices(vocabulary, k=WORDS))]}))
    started = time.process_time()
    found = write_overlap({"aa_lcr": out}, [folder / "train.parquet"])["aa_lcr"]
    return {
        "training_rows": found["training_rows"],
        "words_of_a_row": WORDS,
        "planned_rows": found["rows"],
        "cpu_s": round(time.process_time() - started, 1),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def _answer(row: Row) -> str:
    cited = "".join(f"<CHUNK_{number}>" for number in row.evidence)
    return f"{'I look at it. ' * 100}</think><useful_chunks>{cited}</useful_chunks><answer>{row.gold[0]}</answer>"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, help="Write the figures here, as JSON.")
    parser.add_argument("--answers", type=int, default=ANSWERS)
    parser.add_argument("--rows", type=int, default=ROWS)
    arguments = parser.parse_args()
    figures = {"scoring": measure_scoring(arguments.answers)}
    print(figures, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        figures["overlap"] = measure_overlap(arguments.rows, Path(folder))
    text = json.dumps(figures, indent=1) + "\n"
    print(text)
    if arguments.output:
        arguments.output.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
