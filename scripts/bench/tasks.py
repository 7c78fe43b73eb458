"""Benchmark the scoring of a batch of GoLongRL's tasks: seconds, and relative to published metrics and to rouge-score.

    python scripts/bench/tasks.py --output outputs/bench_tasks.json

Needs no GPU and no network, and takes two minutes.

(a) 2,048 responses of 1,500 tokens (1,150 words of reasoning, then an answer; every second one wrong), evenly from the
    ten tasks, in the killable processes that training uses. Also each task by itself in this process: the repaired
    metric relative to the published one (`paper_exact`). Alternating; medians.
(b) The same batch after one response that hangs the math parser: the delay of the batch, and the time that the hanging
    response takes beyond its own deadline.
(c) ROUGE-L of two texts of up to 32K words: seconds of the package rouge-score relative to ours, for lengths at which
    rouge-score ends in reasonable time.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from verl_longrl.rewards import RewardOptions, score
from verl_longrl.rewards.isolation.scorer_pool import IsolatedScorer
from verl_longrl.rewards.scoring import Job
from verl_longrl.rewards.tasks.golongrl import TASKS

from data_gen.answer_templates import render_response

BATCH, REASONING_WORDS, DEADLINE_S = 2048, 1150, 1.0
HANGING = "It is a binomial coefficient.</think>\\boxed{\\binom{10^9}{10^8}}"
WORDS = [
    f"{first}{second}" for first in ("ka", "lo", "mi", "nu", "re", "so") for second in ("dan", "fel", "gor", "hut")
]


def make_example(task: str, draw: random.Random) -> tuple[Any, Any]:
    """A ground truth of the task, and a wrong answer of the same form."""
    items = draw.sample(WORDS, 8)
    match task.removeprefix("golongrl_"):
        case "retrieval":
            sentence = " ".join(draw.choices(WORDS, k=12))
            return sentence, f"{sentence} {items[0]}"
        case "qa":
            return items[0], items[1]
        case "choice":
            return "B", "C"
        case "math":
            value = draw.randrange(1000)
            return f"\\frac{{{value}}}{{7}}", str(value + 1)
        case "table":
            rows = [[word, draw.randrange(100), draw.randrange(100)] for word in items]
            columns = ["name", "first", "last"]
            return {"columns": columns, "data": rows}, {"columns": columns, "data": rows[:-1]}
        case "summary":
            right, wrong = (" ".join(draw.choices(WORDS, k=300)) for _ in range(2))
            return right, wrong
        case _:
            return items, items[::-1][:-2]


def make_batch(count: int, seed: int = 0) -> list[Job]:
    """Jobs of all tasks in turn. Answers are right in one round of tasks and wrong in the next."""
    draw, jobs = random.Random(seed), []
    for number in range(count):
        task = list(TASKS)[number % len(TASKS)]
        answers = make_example(task, draw)
        reasoning = " ".join(draw.choices(WORDS, k=REASONING_WORDS))
        jobs.append(Job(task, f"{reasoning} {render_response(task, answers[number // len(TASKS) % 2])}", answers[0]))
    return jobs


def measure_seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


async def score_as_in_training(isolation: IsolatedScorer, jobs: list[Job], hanging: bool) -> tuple[float, float]:
    """Seconds until the batch is scored, and until a hanging response that arrived before it is."""

    async def one(job: Job) -> float:
        started = time.perf_counter()
        (outcome,) = await isolation.score_for_each_verdict(job)
        assert ("took too long" in outcome.reason) == (job.response == HANGING), outcome
        return time.perf_counter() - started

    stuck = asyncio.create_task(one(Job("golongrl_math", HANGING, "7", {}, isolation.options))) if hanging else None
    await asyncio.sleep(0)
    started = time.perf_counter()
    await asyncio.gather(*(one(job) for job in jobs))
    done = time.perf_counter() - started
    return done, await stuck if stuck else 0.0


def score_all(jobs: list[Job], options: RewardOptions | None) -> None:
    for job in jobs:
        score(*job[:4], options=options)


def bench_batch(count: int, repeats: int) -> dict[str, Any]:
    jobs, exact = make_batch(count), RewardOptions(paper_exact=True)
    batch_seconds: dict[str, list[float]] = {name: [] for name in ("alone", "with a hanging one", "the hanging one")}
    task_ms: dict[str, dict[str, list[float]]] = {task: {"repaired": [], "published": []} for task in TASKS}
    with IsolatedScorer(RewardOptions(timeout_s=DEADLINE_S)) as isolation:
        # A first small batch, so that imports are not measured.
        asyncio.run(score_as_in_training(isolation, jobs[: 2 * len(TASKS)], hanging=False))
        for _ in range(repeats):
            batch_seconds["alone"].append(asyncio.run(score_as_in_training(isolation, jobs, hanging=False))[0])
            with_hanging, of_hanging = asyncio.run(score_as_in_training(isolation, jobs, hanging=True))
            batch_seconds["with a hanging one"].append(with_hanging)
            batch_seconds["the hanging one"].append(of_hanging)
            for task, times in task_ms.items():
                task_jobs = [job for job in jobs if job.data_source == task]
                for name, options in (("repaired", None), ("published", exact)):
                    spent = measure_seconds(partial(score_all, task_jobs, options))
                    times[name].append(1e3 * spent / len(task_jobs))
    return {
        "responses": count,
        "batch_s": batch_seconds,
        "per_second": count / statistics.median(batch_seconds["alone"]),
        "extra_delay_s": statistics.median(batch_seconds["with a hanging one"])
        - statistics.median(batch_seconds["alone"]),
        "beyond_deadline_s": max(batch_seconds["the hanging one"]) - DEADLINE_S,
        "task_ms": {task: {name: statistics.median(t) for name, t in times.items()} for task, times in task_ms.items()},
    }


def bench_rouge(repeats: int) -> dict[int, dict[str, float | None]]:
    from rouge_score.rouge_scorer import RougeScorer

    package, draw, results = RougeScorer(["rougeL"]), random.Random(1), {}
    for length in (2_000, 8_000, 32_000):
        gold, text = (" ".join(draw.choices(WORDS, k=length)) for _ in range(2))
        answer = f"</think>[Answer]\n{text}"
        ours = statistics.median(
            measure_seconds(partial(score, "golongrl_summary", answer, gold)) for _ in range(repeats)
        )
        theirs = measure_seconds(partial(package.score, gold, text)) if length <= 2_000 else None
        results[length] = {"ours_s": ours, "rouge_score_s": theirs}
    return results


def main(
    output: Annotated[Path, typer.Option(help="JSON file to write.")] = Path("outputs/bench_tasks.json"),
    responses: Annotated[int, typer.Option(help="Responses per batch.")] = BATCH,
    repeats: Annotated[int, typer.Option(help="Runs of each variant.")] = 3,
) -> None:
    """Run the benchmark, print tables and write the JSON."""
    load = os.getloadavg()[0]
    scored, rouge = bench_batch(responses, repeats), bench_rouge(repeats)
    output.parent.mkdir(parents=True, exist_ok=True)
    result = {"cpus": os.cpu_count(), "load_average_before": load, "batch": scored, "rouge": rouge}
    output.write_text(json.dumps(result, indent=1) + "\n")

    print(f"machine: {os.cpu_count()} cores, load average {load:.1f} before\n")
    print(
        f"{responses} responses, scored as in training: {statistics.median(scored['batch_s']['alone']):.2f} s, ", end=""
    )
    print(f"{scored['per_second']:.0f} per second")
    print(f"after a response that hangs the math parser: the batch takes {scored['extra_delay_s']:+.3f} s; ", end="")
    print(f"the hanging one takes its deadline of {DEADLINE_S:g} s and {scored['beyond_deadline_s']:.3f} s more\n")
    print("| task | ms per response | published metric, ms | ratio |\n|---|---|---|---|")
    for task, times in scored["task_ms"].items():
        ours, published = times["repaired"], times["published"]
        print(f"| {task} | {ours:.2f} | {published:.2f} | {ours / published:.1f} |")
    print("\n| ROUGE-L of words | s | rouge-score, s | ratio |\n|---|---|---|---|")
    for length, times in rouge.items():
        theirs = times["rouge_score_s"]
        comparison = f"{theirs:.2f} | {theirs / times['ours_s']:.0f}" if theirs else " | "
        print(f"| {length:,} | {times['ours_s']:.3f} | {comparison} |")
    print(f"\n{output}")


if __name__ == "__main__":
    typer.run(main)
