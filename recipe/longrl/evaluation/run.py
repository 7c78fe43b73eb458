"""Run the sets of a profile: plan them, ask what has no answer yet, and score.

    OUT/starts.jsonl       command, commit and versions of each start
    OUT/SET/plan.json ...  one folder for each set, see `plan`, `log` and `score`

If a run is killed, rerun the same command: it resumes. Answers that were received are kept, failures are asked again.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from verl_longrl.secrets import redact

from recipe.longrl.evaluation.answers import PlannedAnswer, iterate_answers
from recipe.longrl.evaluation.catalog import find_benchmark, read_rows
from recipe.longrl.evaluation.client import Client, ClientOptions, Request
from recipe.longrl.evaluation.contamination import CLOSED_BOOK, closed_rows
from recipe.longrl.evaluation.external.tools import ToolPlan, find_tool, plan_tool
from recipe.longrl.evaluation.log import FAILED, RequestLog, read_outcomes
from recipe.longrl.evaluation.models import Model
from recipe.longrl.evaluation.plan import ANSWERS, ROWS, ChatCounter, PlannedRow, SetPlan, make_plan
from recipe.longrl.evaluation.profiles import Profile, SetOptions

PROGRESS_S = 10.0
"""Seconds between two lines of progress."""


def plan_sets(out: Path, profile: Profile, sets: Mapping[str, SetOptions], model: Model) -> dict[str, SetPlan]:
    """Plan every set in its folder, or read the plan that is there, without the sets of tools.

    Raises PlanError, BenchmarkError.
    """
    own = {name: options for name, options in sets.items() if find_tool(options.benchmark) is None}
    if not own:
        return {}
    counter = ChatCounter(model.tokenizer, model.record["template"])
    plans = {}
    for name, options in own.items():
        plans[name] = _plan_set(out, profile, name, options, model, counter)
        if options.closed_book:
            plans[name + CLOSED_BOOK] = _plan_set(out, profile, name + CLOSED_BOOK, options, model, counter)
    return plans


def plan_tool_sets(out: Path, profile: Profile, sets: Mapping[str, SetOptions], model: Model) -> dict[str, ToolPlan]:
    """Plan every set of a tool in its folder. Raises ToolError, PlanError, BenchmarkError."""
    tools = {name: find_tool(options.benchmark) for name, options in sets.items()}
    return {
        name: plan_tool(out / name, tool, make_record(profile, name, sets[name], model.record), sets[name])
        for name, tool in tools.items()
        if tool is not None
    }


async def run_sets(plans: Mapping[str, SetPlan], model: Model, options: ClientOptions) -> None:
    """Ask what has no answer yet, set by set. Raises ModelGone when the model answers nothing any more."""
    client = Client(model.urls, model.name, model.api_key_env, model.window, options)
    try:
        for name, plan in plans.items():
            await run_set(name, plan, client, model)
    finally:
        await client.close()


def count_open_requests(plans: Mapping[str, SetPlan]) -> int:
    """Requests of all sets that have no answer yet."""
    total = 0
    for plan in plans.values():
        answers, _ = read_outcomes(plan.folder / ANSWERS)
        total += sum(1 for _ in open_samples(plan, answers)) + sum(1 for _ in open_follow_ups(plan))
    return total


async def run_set(name: str, plan: SetPlan, client: Client, model: Model) -> None:
    """Ask what has no answer yet in one set."""
    rows = os.open(plan.folder / ROWS, os.O_RDONLY)
    try:
        async with RequestLog(plan.folder / ANSWERS) as log:
            await ask_and_log(name, list(make_requests(plan, log.answers, rows, model)), log, client)
    finally:
        os.close(rows)
    if any(any(row.follow_up) for row in plan.rows):
        async with RequestLog(plan.folder / ANSWERS) as log:
            await ask_and_log(f"{name}, second requests", make_follow_ups(plan, model, log), log, client)


async def ask_and_log(name: str, requests: list[Request], log: RequestLog, client: Client) -> None:
    """Ask the requests, log their outcomes and print the progress."""
    progress = Progress(name, len(requests), sum(request.tokens for request in requests))

    def finish(outcome: dict[str, Any]) -> None:
        if outcome["state"] == FAILED:
            outcome["error"] = redact(outcome["error"])
        log.add(outcome)
        progress.count(outcome)

    await client.ask_all(requests, finish)
    progress.show()


def open_samples(plan: SetPlan, answered: Mapping[str, Any]) -> Iterator[tuple[str, PlannedRow, int]]:
    """(key, row, sample number) of each answer that is missing, once for each different question."""
    seen = {*answered}
    for row in plan.rows:
        for sample in range(plan.record["repeats"]):
            key = plan.request_key(row.request, sample)
            if row.fit != "skip" and key not in seen:
                seen.add(key)
                yield key, row, sample


def make_requests(plan: SetPlan, answered: Mapping[str, Any], rows: int, model: Model) -> Iterator[Request]:
    """The requests for the answers that are missing. rows: descriptor of the open rows.jsonl."""

    def encode_body(row: PlannedRow, sample: int) -> bytes:
        entry = orjson.loads(os.pread(rows, row.size, row.offset))
        return orjson.dumps({"model": model.name, **request_body(plan.record, entry, sample, model.seeds)})

    for key, row, sample in open_samples(plan, answered):
        tokens = row.prompt_tokens + row.max_tokens
        yield Request(key, row.group, tokens, partial(encode_body, row, sample), {"row": row.id, "sample": sample})


def open_follow_ups(plan: SetPlan) -> Iterator[PlannedAnswer]:
    """The answers whose second request can be asked and has no answer yet, once for each different one."""
    if not any(any(row.follow_up) for row in plan.rows):
        return
    seen: set[str] = set()
    for planned in iterate_answers(plan):
        if planned.first is not None and planned.answer is None and planned.key not in seen:
            seen.add(planned.key)
            yield planned


def make_follow_ups(plan: SetPlan, model: Model, log: RequestLog) -> list[Request]:
    """The second requests that are missing. One that exceeds the window is logged as failed and not sent."""
    counter = ChatCounter(model.tokenizer, model.record["template"])
    requests = []
    for planned in open_follow_ups(plan):
        messages, longest = planned.second_request
        prompt, record = counter.count(messages), {"row": planned.row.id, "sample": planned.sample}
        if prompt + longest > model.window:
            error = f"second request: prompt + answer = {prompt} + {longest} tokens, window {model.window}"
            never_sent = {"state": FAILED, "error": error, "started": time.time(), "seconds": 0.0}
            log.add({"key": planned.key, **record, **never_sent})
            continue
        record["counted_tokens"] = prompt
        entry = {"row": {"messages": messages}, "max_tokens": longest}
        body = {"model": model.name, **request_body(plan.record, entry, planned.sample, model.seeds)}
        requests.append(Request(planned.key, planned.key, prompt + longest, partial(orjson.dumps, body), record))
    return requests


def request_body(record: Mapping[str, Any], entry: Mapping[str, Any], sample: int, seeds: bool) -> dict[str, Any]:
    """A chat request, without the model's name."""
    sampling, messages = record["sampling"], entry["row"]["messages"]
    body = {
        "messages": messages,
        "max_tokens": entry["max_tokens"],
        "temperature": sampling["temperature"],
        "top_p": sampling["top_p"],
        **sampling["extra"],
    }
    if seeds:
        body["seed"] = record["seed"] + sample
    if template := record["model"]["template"]:
        body["chat_template_kwargs"] = template
    if messages[-1]["role"] == "assistant":
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    return body


class Progress:
    """Prints how far a set is, at most every PROGRESS_S seconds."""

    def __init__(self, name: str, requests: int, tokens: int) -> None:
        self._name, self._requests, self._tokens = name, requests, tokens
        self._states: Counter[str] = Counter()
        self._started = self._shown = time.monotonic()

    def count(self, outcome: Mapping[str, Any]) -> None:
        self._states[outcome["state"]] += 1
        if time.monotonic() - self._shown >= PROGRESS_S:
            self.show()

    def show(self) -> None:
        now, done = time.monotonic(), self._states.total()
        rate = done / max(now - self._started, 1e-9)
        states = "".join(f", {number} {state}" for state, number in sorted(self._states.items()))
        left = f", {(self._requests - done) / rate / 60:.0f} min left" if 0 < done < self._requests else ""
        print(f"{self._name}: {done}/{self._requests} requests{states}{left}", file=sys.stderr, flush=True)
        self._shown = now


def _plan_set(
    out: Path, profile: Profile, name: str, options: SetOptions, model: Model, counter: ChatCounter
) -> SetPlan:
    benchmark = find_benchmark(options.benchmark)
    rows = read_rows(benchmark, options.options, model.tokenizer, profile.seed, options.slice)
    if name.endswith(CLOSED_BOOK):
        rows = closed_rows(islice(rows, options.limit), benchmark.name)
    record = make_record(profile, name, options, model.record)
    return make_plan(out / name, rows, counter, model.window, options, record)


def make_record(profile: Profile, name: str, options: SetOptions, model: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a set, but for the checksums of its rows. model: the model's record."""
    record = {
        "profile": profile.name,
        "source": profile.source,
        "unstated": list(profile.unstated),
        "average": list(profile.average),
        "set": name,
        "benchmark": options.benchmark,
        # The closed book is a set of its own, and a judge decides later, so that both can be added to answers.
        "options": {
            key: value for key, value in asdict(options).items() if key not in ("sampling", "closed_book", "judge")
        },
        "sampling": asdict(options.sampling),
        "seed": profile.seed,
        "repeats": options.repeats,
        "model": model,
    }
    # As JSON, so that it equals the record that is read from the disk.
    read: dict[str, Any] = orjson.loads(orjson.dumps(record))
    return read
