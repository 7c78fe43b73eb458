"""What scoring a training batch of GoLongRL's tasks costs. Needs no GPU and no network; two minutes.

(a) 2,048 responses of 1,500 tokens (1,150 words of reasoning, then an answer; every second one wrong), the ten tasks
    evenly mixed, in the killable processes that training uses; and each task alone in this process, by the repaired
    metric and by the published one (`paper_exact`). Alternating; medians.
(b) The same batch with one response before it that hangs the math parser: by how much the batch is later, and what the
    hanging one costs beyond its own deadline.
(c) ROUGE-L of two texts of up to 32K words, against the package rouge-score where that ends in reasonable time.

    python scripts/bench/tasks.py --output outputs/bench_tasks.json
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from verl_longrl.rewards import RewardOptions, score
from verl_longrl.rewards.isolation.scorer_pool import IsolatedScorer
from verl_longrl.rewards.scoring import Job
from verl_longrl.rewards.tasks.golongrl import TASKS

from data_gen.answer_templates import render_response

BATCH, REASONING_WORDS, DEADLINE_S = 2048, 1150, 1.0
HANGING = "It is a tower of powers.</think>\\boxed{9^{9^{9^{9}}}}"
WORDS = [
    f"{first}{second}" for first in ("ka", "lo", "mi", "nu", "re", "so") for second in ("dan", "fel", "gor", "hut")
]


def example(task: str, draw: random.Random) -> tuple[Any, Any]:
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


def batch(count: int, seed: int = 0) -> list[Job]:
    """Jobs of all tasks in turn; every second round of them wrong."""
    draw, jobs = random.Random(seed), []
    for number in range(count):
        task = list(TASKS)[number % len(TASKS)]
        given = example(task, draw)
        reasoning = " ".join(draw.choices(WORDS, k=REASONING_WORDS))
        jobs.append(Job(task, f"{reasoning} {render_response(task, given[number // len(TASKS) % 2])}", given[0]))
    return jobs


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


async def in_training(isolation: IsolatedScorer, jobs: list[Job], hanging: bool) -> tuple[float, float]:
    """Seconds until the batch is scored, and until a hanging response that came before it is."""

    async def one(job: Job) -> float:
        started = time.perf_counter()
        (found,) = await isolation.score_for_each_verdict(job)
        assert (found.status == "timeout") == (job.response == HANGING), found
        return time.perf_counter() - started

    stuck = asyncio.create_task(one(Job("golongrl_math", HANGING, "7", {}, isolation.options))) if hanging else None
    await asyncio.sleep(0)
    started = time.perf_counter()
    await asyncio.gather(*(one(job) for job in jobs))
    done = time.perf_counter() - started
    return done, await stuck if stuck else 0.0


def bench_batch(count: int, repeats: int) -> dict[str, Any]:
    jobs, exact = batch(count), RewardOptions(paper_exact=True)
    found: dict[str, list[float]] = {name: [] for name in ("alone", "beside a hanging one", "the hanging one")}
    each: dict[str, dict[str, list[float]]] = {task: {"repaired": [], "published": []} for task in TASKS}
    with IsolatedScorer(RewardOptions(timeout_s=DEADLINE_S)) as isolation:
        asyncio.run(in_training(isolation, jobs[: 2 * len(TASKS)], hanging=False))  # imports are not what is measured
        for _ in range(repeats):
            found["alone"].append(asyncio.run(in_training(isolation, jobs, hanging=False))[0])
            beside, own = asyncio.run(in_training(isolation, jobs, hanging=True))
            found["beside a hanging one"].append(beside)
            found["the hanging one"].append(own)
            for task, times in each.items():
                mine = [job for job in jobs if job.data_source == task]
                for name, options in (("repaired", None), ("published", exact)):
                    spent = seconds(lambda: [score(*job[:4], options=options) for job in mine])  # noqa: B023
                    times[name].append(1e3 * spent / len(mine))
    return {
        "responses": count,
        "batch_s": found,
        "per_second": count / statistics.median(found["alone"]),
        "extra_delay_s": statistics.median(found["beside a hanging one"]) - statistics.median(found["alone"]),
        "beyond_deadline_s": max(found["the hanging one"]) - DEADLINE_S,
        "task_ms": {task: {name: statistics.median(t) for name, t in times.items()} for task, times in each.items()},
    }


def bench_rouge(repeats: int) -> dict[int, dict[str, float | None]]:
    from rouge_score.rouge_scorer import RougeScorer

    package, draw, found = RougeScorer(["rougeL"]), random.Random(1), {}
    for length in (2_000, 8_000, 32_000):
        gold, text = (" ".join(draw.choices(WORDS, k=length)) for _ in range(2))
        answer = f"</think>[Answer]\n{text}"
        ours = statistics.median(seconds(lambda: score("golongrl_summary", answer, gold)) for _ in range(repeats))  # noqa: B023
        theirs = seconds(lambda: package.score(gold, text)) if length <= 2_000 else None  # noqa: B023
        found[length] = {"ours_s": ours, "rouge_score_s": theirs}
    return found


def main(
    output: Annotated[Path, typer.Option(help="Where the JSON goes.")] = Path("outputs/bench_tasks.json"),
    responses: Annotated[int, typer.Option(help="Responses of the batch.")] = BATCH,
    repeats: Annotated[int, typer.Option(help="Runs of each side.")] = 3,
) -> None:
    """Measure and print."""
    load = os.getloadavg()[0]
    scored, rouge = bench_batch(responses, repeats), bench_rouge(repeats)
    output.parent.mkdir(parents=True, exist_ok=True)
    result = {"cpus": os.cpu_count(), "load_average_before": load, "batch": scored, "rouge": rouge}
    output.write_text(json.dumps(result, indent=1) + "\n")

    print(f"machine: {os.cpu_count()} cores, load average {load:.1f} before\n")
    print(
        f"{responses} responses, scored as in training: {statistics.median(scored['batch_s']['alone']):.2f} s, ", end=""
    )
    print(f"{scored['per_second']:.0f} a second")
    print(f"with one before them that hangs the math parser: {scored['extra_delay_s']:+.3f} s; ", end="")
    print(f"it costs its deadline of {DEADLINE_S:g} s and {scored['beyond_deadline_s']:.3f} s\n")
    print("| task | ms a response | as published | ratio |\n|---|---|---|---|")
    for task, times in scored["task_ms"].items():
        ours, published = times["repaired"], times["published"]
        print(f"| {task} | {ours:.2f} | {published:.2f} | {ours / published:.1f} |")
    print("\n| ROUGE-L of words | s | rouge-score, s | ratio |\n|---|---|---|---|")
    for length, times in rouge.items():
        theirs = times["rouge_score_s"]
        more = f"{theirs:.2f} | {theirs / times['ours_s']:.0f}" if theirs else " | "
        print(f"| {length:,} | {times['ours_s']:.3f} | {more} |")
    print(f"\n{output}")


if __name__ == "__main__":
    typer.run(main)
