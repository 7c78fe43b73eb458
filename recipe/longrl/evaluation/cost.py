"""Tokens, seconds and money: estimated from a plan, and measured from a log."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verl_longrl.data.jsonl import iterate_jsonl

from recipe.longrl.evaluation.client import CUT, SCORED
from recipe.longrl.evaluation.external.tools import measure_tool_cost, read_tool_plan
from recipe.longrl.evaluation.plan import ANSWERS, SetPlan, read_record


@dataclass(frozen=True)
class Rates:
    """Speed and prices of a model; None where they are not known."""

    prefill: float | None = None
    """Prompt tokens a second, over all replicas."""
    decode: float | None = None
    """Answer tokens a second, over all replicas."""
    price_in: float | None = None
    """US dollars per million prompt tokens."""
    price_out: float | None = None
    """US dollars per million answer tokens."""


NO_RATES = Rates()


def estimate_cost(plan: SetPlan, rates: Rates) -> dict[str, Any]:
    """The cost of a set before anything is sent, with every answer at its longest: an upper bound.

    Returns rows, requests, prompt_tokens, prompt_tokens_computed (documents shared by several rows once, if the server
    caches prefixes), answer_tokens, hours and dollars (None where the rates are not known), and over_window.
    """
    prompt, answer = plan.tokens
    sent = [row for row in plan.rows if row.fit != "skip"]
    hours = dollars = None
    if rates.prefill and rates.decode:
        hours = (plan.shared_tokens / rates.prefill + answer / rates.decode) / 3600
    if rates.price_in is not None and rates.price_out is not None:
        dollars = _dollars(prompt, answer, rates)
    return {
        "rows": len(plan.rows),
        "requests": sum(1 + any(row.follow_up) for row in sent) * plan.record["repeats"],
        "prompt_tokens": prompt,
        "prompt_tokens_computed": plan.shared_tokens,
        "answer_tokens": answer,
        "hours": hours,
        "dollars": dollars,
        "over_window": sum(row.fit != "whole" for row in plan.rows),
    }


def measure_cost(folder: Path, rates: Rates = NO_RATES) -> dict[str, Any]:
    """The cost of a set as its log has it, failed requests included.

    Returns requests by state, tokens of prompts and answers as the servers counted them, seconds of all requests
    together and from the first request to the last reply, and dollars.
    """
    if tool_plan := read_tool_plan(folder, read_record(folder)):
        cost = measure_tool_cost(tool_plan)
        return cost | {"dollars": _measured_dollars(cost["prompt_tokens"], cost["answer_tokens"], rates)}
    totals: Counter[str] = Counter()
    began, ended, busy = float("inf"), 0.0, 0.0
    for record in iterate_jsonl(folder / ANSWERS, ("state", "started", "seconds")):
        totals[record["state"]] += 1
        for name in ("prompt_tokens", "completion_tokens"):
            totals[name] += record.get(name) or 0
        began, ended = min(began, record["started"]), max(ended, record["started"] + record["seconds"])
        busy += record["seconds"]
    return {
        "answers": totals[SCORED] + totals[CUT],
        "failed_requests": totals["failed"],
        "prompt_tokens": totals["prompt_tokens"],
        "answer_tokens": totals["completion_tokens"],
        "request_seconds": round(busy, 1),
        "seconds": round(max(0.0, ended - began), 1),
        "dollars": _measured_dollars(totals["prompt_tokens"], totals["completion_tokens"], rates),
    }


def _measured_dollars(prompt: int, answer: int, rates: Rates) -> float | None:
    priced = rates.price_in is not None and rates.price_out is not None
    return _dollars(prompt, answer, rates) if priced else None


def _dollars(prompt: int, answer: int, rates: Rates) -> float:
    return (prompt * (rates.price_in or 0) + answer * (rates.price_out or 0)) / 1e6
