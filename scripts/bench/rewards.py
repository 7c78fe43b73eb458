"""Benchmark judged rewards relative to one judge call after another, and the delay that hanging responses cause.

    python scripts/bench/rewards.py --output outputs/bench_rewards.json

Needs no GPU and no network, and takes one to three minutes.

(a) Seconds for 256 different responses with a local judge that takes 50 ms per call: one call after another, each with
    a new client, as the published LongRLVR code does, relative to `score_async` as training uses it. Alternating in one
    run; medians.
(b) 200 normal responses that arrive after hanging ones (a catastrophic regular expression, a huge power in sympy): the
    delay of the slowest normal response relative to a run without hanging ones, and the time that a hanging response
    takes beyond its own deadline. Alternating; medians, and the worst of all repeats. The row "none" is the noise: runs
    without hanging responses relative to their own median.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from stub_server import DELAY_S, stub_server

SCORER = """
import re
from verl_longrl.rewards import Score, scorer

@scorer("bench")
def bench(response, ground_truth, extra_info, options):
    if response == "regex":
        re.match(r"(a+)+$", "a" * 64 + "b")
    elif response == "power":
        import sympy
        sympy.sympify("9**9**9**9")
    return Score(1.0)
"""
ROW = {
    "ref_chunks": [1, 5],
    "ref_chunks_text": ["The capital of France is Paris."],
    "question": "What is the capital?",
}


def make_responses(run: int, count: int) -> list[str]:
    """Well-formed responses with different answers, none of them equal to the gold answer, so each needs the judge."""
    block = "reasoning</think><useful_chunks><CHUNK_1><CHUNK_5></useful_chunks>\n<answer>{}</answer>"
    return [block.format(f"run {run}: it is Paris, as answer {i} says") for i in range(count)]


def score_sequentially(url: str, texts: list[str]) -> float:
    """Seconds for one blocking call per answer, each with a new client."""
    import openai

    started = time.perf_counter()
    for text in texts:
        client = openai.OpenAI(base_url=url, api_key="EMPTY")
        client.chat.completions.create(
            model="judge",
            messages=[{"role": "user", "content": f"Is this Paris? {text} [[Yes]] or [[No]]"}],
            temperature=0,
            max_tokens=512,
        )
    return time.perf_counter() - started


async def score_concurrently(url: str, texts: list[str], isolation: Any) -> float:
    """Seconds for `score_async` with isolation and a new judge, including the opening of its connections."""
    from verl_longrl.rewards import JudgeOptions, RewardOptions, score_async
    from verl_longrl.rewards.judge.client import JudgeClient

    started = time.perf_counter()
    judge = JudgeClient(JudgeOptions(endpoints=(url,), model="judge"))
    options = RewardOptions.from_dict({"answer": {"by": "judge"}})
    scores = await asyncio.gather(
        *[score_async("longrlvr", t, "Paris", ROW, options=options, isolation=isolation, judge=judge) for t in texts]
    )
    seconds = time.perf_counter() - started
    assert all(s.status == "ok" and s.value == 2 for s in scores), "the judge's verdicts did not arrive"
    assert judge.metrics()["calls"] == len(texts), "the cache must not help here"
    await judge.close()
    return seconds


def bench_judge(count: int, repeats: int) -> dict[str, Any]:
    from verl_longrl.rewards.isolation.scorer_pool import IsolatedScorer

    with stub_server("[[YES]]") as url:
        # A first call, so that imports are not measured.
        score_sequentially(url, ["warm"])
        sequential, concurrent = [], []
        with IsolatedScorer() as isolation:
            for run in range(repeats):
                concurrent.append(asyncio.run(score_concurrently(url, make_responses(run, count), isolation)))
                sequential.append(score_sequentially(url, make_responses(run, count)))
    slow, fast = statistics.median(sequential), statistics.median(concurrent)
    return {
        "responses": count,
        "judge_delay_s": DELAY_S,
        "one_after_another_s": sequential,
        "ours_s": concurrent,
        "ratio": slow / fast,
    }


async def score_mixed(isolation: Any, hanging: list[str], normal: int) -> tuple[list[float], list[float]]:
    """Seconds from arrival to score, of the normal responses and of the hanging ones, which arrive first."""
    from verl_longrl.rewards.scoring import Job

    async def one(response: str) -> float:
        started = time.perf_counter()
        (score,) = await isolation.score_for_each_verdict(Job("bench", response, "", options=isolation.options))
        assert score.status == ("timeout" if response in hanging else "ok"), score
        return time.perf_counter() - started

    stuck = [asyncio.create_task(one(response)) for response in hanging]
    await asyncio.sleep(0)
    times = await asyncio.gather(*[one(f"normal {i}") for i in range(normal)])
    return list(times), list(await asyncio.gather(*stuck))


def bench_hanging(normal: int, repeats: int, deadline_s: float) -> dict[str, Any]:
    from verl_longrl.rewards import RewardOptions
    from verl_longrl.rewards.isolation.scorer_pool import IsolatedScorer

    cases = {
        "none": [],
        "regex": ["regex"],
        "sympy power": ["power"],
        "both": ["regex", "power"],
        "8 hanging": ["regex", "power"] * 4,
    }
    worst: dict[str, list[float]] = {name: [] for name in cases}
    beyond_deadline: dict[str, list[float]] = {name: [] for name in cases}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench_scorer.py"
        path.write_text(SCORER)
        with IsolatedScorer(RewardOptions(scorers=(str(path),), timeout_s=deadline_s)) as isolation:
            for _ in range(repeats):
                for name, hanging in cases.items():
                    times, stuck = asyncio.run(score_mixed(isolation, hanging, normal))
                    worst[name].append(max(times))
                    beyond_deadline[name].extend(cost - deadline_s for cost in stuck)
    baseline = statistics.median(worst["none"])
    return {
        "normal": normal,
        "deadline_s": deadline_s,
        "worst_normal_s": worst,
        "extra_delay_s": {name: statistics.median(times) - baseline for name, times in worst.items()},
        "extra_delay_worst_s": {name: max(times) - baseline for name, times in worst.items()},
        "beyond_deadline_s": {name: max(costs) for name, costs in beyond_deadline.items() if costs},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs/bench_rewards.json"), help="JSON file to write")
    parser.add_argument("--responses", type=int, default=256, help="judged responses")
    parser.add_argument("--normal", type=int, default=200, help="normal responses")
    parser.add_argument("--deadline", type=float, default=1.0, help="timeout_s of the hanging responses")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each variant")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    judged = bench_judge(arguments.responses, arguments.repeats)
    hanging = bench_hanging(arguments.normal, arguments.repeats, arguments.deadline)
    result = {"cpus": os.cpu_count(), "load_average_before": load, "judge": judged, "hanging": hanging}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")

    print(f"machine: {os.cpu_count()} cores, load average {load:.1f} before\n")
    print(f"| {judged['responses']} judged responses, judge takes {DELAY_S * 1e3:.0f} ms | seconds |")
    print("|---|---|")
    print(f"| one after another, a new client each | {statistics.median(judged['one_after_another_s']):.2f} |")
    print(f"| ours (score_async, isolation + judge) | {statistics.median(judged['ours_s']):.3f} |")
    print(f"| ratio (goal: 30) | {judged['ratio']:.1f} |\n")
    print(f"| hanging, before {hanging['normal']} normal | extra delay s, median | worst | s beyond deadline |")
    print("|---|---|---|---|")
    for name, extra in hanging["extra_delay_s"].items():
        worst, beyond = hanging["extra_delay_worst_s"][name], hanging["beyond_deadline_s"].get(name, "")
        print(f"| {name} | {extra:.3f} | {worst:.3f} | {'' if beyond == '' else f'{beyond:.3f}'} |")
    print(f"\n{arguments.output}")


if __name__ == "__main__":
    main()
