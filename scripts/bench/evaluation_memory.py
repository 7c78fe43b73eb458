"""Measure whether the evaluation harness' memory grows with the number of rows beyond a small index.

    python scripts/bench/evaluation_memory.py [--rows 1000 --rows 20000]

Plans, asks a stub server and scores rows of 4,000 characters, each number of rows in a process of its own, and reads
the peak of its resident memory after each step. Writes docs/results/evaluation_memory.json.
"""

import asyncio
import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from stub_server import stub_server

os.environ["TOKENIZERS_PARALLELISM"] = "false"

RESULT = Path("docs/results/evaluation_memory.json")
CHARACTERS, IN_FLIGHT = 4000, 64
CHAT = "{% for message in messages %}{{ message.content }}{% endfor %}"


def make_rows(count: int) -> Iterator[Any]:
    from recipe.longrl.evaluation.records import Row

    for number in range(count):
        text = f"Document {number}. " + "The capital of France is Paris. " * (CHARACTERS // 32) + "Which city is it?"
        yield Row(str(number), ({"role": "user", "content": text},), "Paris", 16, meta={"task": "vt"})


def measure(count: int, url: str) -> dict[str, float]:
    """Peak MiB after each step, in this process."""
    from data_gen.tokenizer import BUILTIN, load_tokenizer
    from recipe.longrl.evaluation.client import ClientOptions
    from recipe.longrl.evaluation.models import Model
    from recipe.longrl.evaluation.plan import ChatCounter, make_plan
    from recipe.longrl.evaluation.profiles import SetOptions
    from recipe.longrl.evaluation.run import run_sets
    from recipe.longrl.evaluation.score import score_set

    tokenizer, peaks = load_tokenizer(BUILTIN), {}
    tokenizer.chat_template = CHAT
    options = SetOptions(benchmark="ruler")
    record = {
        **{"profile": "bench", "set": "bench", "benchmark": "ruler", "seed": 42, "repeats": 1},
        "model": {"template": {}},
        "sampling": {"temperature": 0.0, "top_p": 1.0, "extra": {}},
        "options": {"rule": None, "aggregate": "rows", "over_window": "fail"},
    }

    def note(step: str) -> None:
        peaks[step] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bench"
        plan = make_plan(folder, make_rows(count), ChatCounter(tokenizer), 1 << 16, options, record)
        note("plan")
        model = Model("model", (url,), "LONGRL_BENCH_KEY", 1 << 16, None, {})
        asyncio.run(run_sets({"bench": plan}, model, ClientOptions(concurrency=IN_FLIGHT)))
        note("run")
        tables = score_set(folder)
        note("score")
        assert tables["scored"] == count, tables["scored"]
    return peaks


def main(
    rows: Annotated[list[int], typer.Option(help="Numbers of rows, the smallest first.")] = [1000, 20_000],  # noqa: B006
    output: Path = RESULT,
    child: Annotated[str, typer.Option(hidden=True, help="URL of the server.")] = "",
) -> None:
    """Measure each number of rows, print the results and write the JSON."""
    if child:
        print(json.dumps(measure(rows[0], child)))
        return
    peaks = {}
    for count in rows:
        with stub_server("Paris") as url:
            command = [sys.executable, __file__, "--rows", str(count), "--child", url]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        peaks[count] = json.loads(done.stdout.splitlines()[-1])
        print(count, peaks[count], flush=True)
    few, many = rows[0], rows[-1]
    growth = {step: round((peaks[many][step] - peaks[few][step]) * 2**20 / (many - few)) for step in peaks[few]}
    result = {
        "command": shlex.join(["python", *sys.argv]),
        "characters_per_row": CHARACTERS,
        "peak_mib": peaks,
        "bytes_per_row": growth,
    }
    print(json.dumps(growth))
    output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
