"""Benchmark the overhead of the evaluation harness relative to a bare aiohttp client.

    python scripts/bench/evaluation.py --output docs/results/evaluation_overhead.json

Both send the same requests to one server in another process that answers after 50 ms, with 64 requests in flight. The
bare client encodes, sends and decodes, and keeps nothing. The harness also reads its plan, hashes, retries, bounds the
tokens in flight and writes every answer to the disk. They alternate; the ratio of each pair counts, because the machine
may be shared. Planning (tokenising) and scoring are not included. Needs no GPU and no network; takes a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from stub_server import DELAY_S, stub_server

IN_FLIGHT = 64
CHARACTERS = (400, 4000, 40_000)
"""Of a prompt."""


def make_rows(count: int, characters: int) -> list[dict[str, Any]]:
    """Entries of rows.jsonl with different documents."""
    from recipe.longrl.evaluation.log import digest

    entries = []
    for number in range(count):
        text = f"Document {number}. " + "The capital of France is Paris. " * (characters // 32)
        messages = [{"role": "user", "content": text}]
        row = {"id": str(number), "messages": messages, "gold": "Paris", "max_tokens": 16}
        counts = {"prompt_tokens": characters // 4, "max_tokens": 16, "fit": "whole", "group": str(number)}
        entries.append({"row": row, "request": digest([messages, 16]), **counts})
    return entries


async def ask_bare(url: str, entries: list[dict[str, Any]]) -> None:
    """A client that only sends and reads."""
    import aiohttp

    rest = iter(entries)

    async def work(http: aiohttp.ClientSession) -> None:
        for entry in rest:
            body = {"model": "model", "messages": entry["row"]["messages"], "max_tokens": 16, "temperature": 0.0}
            data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
            async with http.post(f"{url}/chat/completions", data=data, headers=headers) as response:
                reply = json.loads(await response.read())
                assert reply["choices"][0]["message"]["content"] == "Paris"

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        await asyncio.gather(*[work(http) for _ in range(IN_FLIGHT)])


async def ask_with_harness(url: str, folder: Path) -> None:
    """A set's run, from its plan on the disk to the last answer on the disk."""
    from recipe.longrl.evaluation.client import ClientOptions
    from recipe.longrl.evaluation.models import Model
    from recipe.longrl.evaluation.plan import read_plan
    from recipe.longrl.evaluation.run import run_sets

    model = Model("model", (url,), "LONGRL_BENCH_KEY", 1 << 20, None, {})
    await run_sets({"bench": read_plan(folder)}, model, ClientOptions(concurrency=IN_FLIGHT))


def time_client(asking: Coroutine[Any, Any, None]) -> tuple[float, float]:
    """Seconds, and seconds of this process on a CPU."""
    started, cpu = time.perf_counter(), time.process_time()
    asyncio.run(asking)
    return time.perf_counter() - started, time.process_time() - cpu


def write_plan(folder: Path, entries: list[dict[str, Any]]) -> None:
    sampling = {"temperature": 0.0, "top_p": 1.0, "extra": {}}
    record = {"model": {"template": {}}, "sampling": sampling, "seed": 42, "repeats": 1}
    folder.mkdir()
    lines = [json.dumps(entry).encode() + b"\n" for entry in entries]
    (folder / "rows.jsonl").write_bytes(b"".join(lines))
    with (folder / "index.jsonl").open("w") as index:
        offset = 0
        for entry, line in zip(entries, lines, strict=True):
            values = {name: value for name, value in entry.items() if name != "row"}
            print(json.dumps({"id": entry["row"]["id"], **values, "offset": offset, "size": len(line)}), file=index)
            offset += len(line)
    (folder / "plan.json").write_text(json.dumps(record))


def measure(count: int, characters: int, repeats: int) -> dict[str, Any]:
    bare, harness = [], []
    entries = make_rows(count, characters)
    with stub_server("Paris") as url, tempfile.TemporaryDirectory() as scratch:
        # Imports are not measured.
        write_plan(Path(scratch) / "warm", entries[:IN_FLIGHT])
        asyncio.run(ask_bare(url, entries[:IN_FLIGHT]))
        asyncio.run(ask_with_harness(url, Path(scratch) / "warm"))
        for repeat in range(repeats):
            folder = Path(scratch) / str(repeat)
            write_plan(folder, entries)
            bare.append(time_client(ask_bare(url, entries)))
            harness.append(time_client(ask_with_harness(url, folder)))
            answers = (folder / "answers.jsonl").read_text().splitlines()
            assert len(answers) == count, f"{len(answers)} answers were logged"
    ratios = [ours / theirs for (ours, _), (theirs, _) in zip(harness, bare, strict=True)]
    return {
        "requests": count,
        "characters": characters,
        "bare_s": [round(seconds, 2) for seconds, _ in bare],
        "harness_s": [round(seconds, 2) for seconds, _ in harness],
        "ratios": [round(ratio, 3) for ratio in ratios],
        "median_ratio": round(statistics.median(ratios), 3),
        "bare_cpu_ms_per_request": round(1000 * min(cpu for _, cpu in bare) / count, 3),
        "harness_cpu_ms_per_request": round(1000 * min(cpu for _, cpu in harness) / count, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    result = {
        "command": shlex.join(["python", *sys.argv]),
        "load_average_before": round(os.getloadavg()[0], 1),
        "in_flight": IN_FLIGHT,
        "server_delay_s": DELAY_S,
        "prompts": [measure(options.requests, characters, options.repeats) for characters in CHARACTERS],
    }
    text = json.dumps(result, indent=2)
    print(text)
    if options.output:
        options.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
