"""Measure how the time of every parser and scorer grows with the length of an adversarial response.

    python scripts/bench/scorer_growth.py

Needs no GPU and no network, and takes ten minutes. Each shape repeats a piece that makes careless parsers slow, in the
place where the scorer looks for its answer. The table has the slowest shape of each parser and scorer at 10K, 100K, 1M
and 10M characters, and the growth from 100K to 1M: 10 is linear, 100 is quadratic. The exit status is 1 when a growth
is above --most-growth where it takes more than 0.1 s, or 10M characters take more than --most-seconds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import typer
from verl_longrl.rewards import score
from verl_longrl.rewards.matching import response_format

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
PIECES = {
    "brackets": "[",
    "braces": "{",
    "parentheses": "(",
    "digits": "1",
    "letters": "a",
    "spaces": " ",
    "commas": "a,",
    "bars": "|-",
    "lines": "a\n",
    "list lines": "- a b\n",
    "quotes": "{'",
    "escapes": "\\'",
    "stars": "**",
    "open records": '{"a":',
    "open lists": "['a',",
    "negative numbers": "[-",
    "boxes": "\\boxed{",
    "closed boxes": "\\boxed{a}",
    "think tags": "<think>",
    "answer tags": "<answer>",
    "chunk tags": "<CHUNK_1>",
    "markers": "[Answer]",
    "answer is": "the answer is ",
    "choices": "The correct answer is (A) or ",
    "numbers": "12, ",
    "factorials": "9!",
    "powers": "9^",
    "han": "的",
    "sentences": "It is. ",
    "separated values": "a,b\n",
    "table rows": "| a | b |\n",
}
WRAPPERS = {
    "bare": "{}",
    "box": "x</think>\\boxed{{{}}}",
    "lines": "x</think>[Answer]\n{}",
    "tags": "x</think><useful_chunks>{0}</useful_chunks><answer>{0}</answer>",
    "sentence": "x</think>The correct answer is {}",
    "reasoning": "{}</think>x",
}
EVIDENCE = {"ref_chunks": [1, 2], "num_chunks": 9}
ROWS = {"columns": ["a", "b"], "data": [[1, 2], [3, 4]]}
SCORERS: dict[str, Any] = {
    "math": "3",
    "longrlvr": "Paris",
    "loongrl_qa": "Paris",
    "loongrl_choice": "B",
    "loongrl_retrieval": ["12", "34"],
    "golongrl_retrieval": "42",
    "golongrl_qa": "B",
    "golongrl_choice": "B",
    "golongrl_exhaustive": ["b", "c"],
    "golongrl_math": "3",
    "golongrl_table": ROWS,
    "golongrl_matching": ["b", "c"],
    "golongrl_ranking": ["b", "c"],
    "golongrl_ordering": ["b", "c"],
    "golongrl_summary": "The cat sat on the mat.",
}
PARSERS: dict[str, Callable[[str], object]] = {
    name: getattr(response_format, name)
    for name in (
        "parse_grounded",
        "parse_boxed",
        "parse_lines",
        "parse_text",
        "parse_sentence",
        "parse_choices",
        "parse_json",
    )
}


def make_texts(size: int) -> dict[str, str]:
    """Each shape in each place, at about `size` characters, and records that all have another key."""
    shapes = {name: piece * (size // len(piece)) for name, piece in PIECES.items()}
    records: list[str] = []
    length = 0
    for number in count():
        records.append(json.dumps({f"key{number}": number}))
        length += len(records[-1]) + 1
        if length >= size:
            break
    shapes["records with different keys"] = f"[{','.join(records)}]"
    shapes["different words"] = " ".join(map(str, range(10**6, 10**6 + size // 8)))
    return {
        f"{shape} ({place})": wrapper.format(text)
        for shape, text in shapes.items()
        for place, wrapper in WRAPPERS.items()
    }


def measure(function: Callable[[str], object], texts: dict[str, str]) -> tuple[float, str]:
    """Seconds of the slowest text, and its name."""
    slowest = 0.0, ""
    for name, text in texts.items():
        started = time.perf_counter()
        function(text)
        slowest = max(slowest, (time.perf_counter() - started, name))
    return slowest


def main(
    most_growth: Annotated[float, typer.Option(help="Largest growth from 100K to 1M characters.")] = 20.0,
    most_seconds: Annotated[float, typer.Option(help="Longest time for 10M characters.")] = 2.0,
    output: Annotated[Path | None, typer.Option(help="Write the numbers as JSON to this file.")] = None,
) -> None:
    """Print the table, and fail where a target is missed."""
    functions = PARSERS | {
        name: lambda text, name=name, gold=gold: score(name, text, gold, EVIDENCE) for name, gold in SCORERS.items()
    }
    score("math", "\\boxed{1}", "2")
    results: dict[str, list[tuple[float, str]]] = {name: [] for name in functions}
    for size in SIZES:
        texts = make_texts(size)
        for name, function in functions.items():
            results[name].append(measure(function, texts))
    print("| parser or scorer | 10K, s | 100K, s | 1M, s | 10M, s | growth 100K to 1M | slowest at 1M |")
    print("|---|---|---|---|---|---|---|")
    missed = []
    for name, measured in results.items():
        _, medium, long, longest = (seconds for seconds, _ in measured)
        seconds = " | ".join(f"{seconds:.3f}" for seconds, _ in measured)
        print(f"| {name} | {seconds} | {long / medium:.0f} | {measured[2][1]} |")
        if (long > 0.1 and long / medium > most_growth) or longest > most_seconds:
            missed.append(name)
    if output:
        output.write_text(json.dumps(results, indent=2))
    if missed:
        print(f"targets missed by {', '.join(missed)}")
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
