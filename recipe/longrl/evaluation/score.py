"""Score a set's answers with every rule of its benchmark, and make its tables.

    scores.jsonl   one line per planned answer, in the order of the plan
    tables.json    the figures; equal answers give an equal file, however often the run was interrupted

An answer is scored (it ended by itself), cut (at its longest length; its text is scored as it is) or failed (it was
never received, or its row was not sent; its score is 0). All three are in the denominator. An answer at which a rule
fails (it hangs, raises, or gives no number from 0 to 1) has the score 0 under this rule, and is counted. Where more
than a set share failed, or the headline's rule did, there is no headline. The same holds for answers that a judge was
to decide and has not.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from verl_longrl.data.jsonl import dumps, encode_line, iterate_jsonl
from verl_longrl.trainer.checkpoints import write_atomic

from recipe.longrl.evaluation import figures
from recipe.longrl.evaluation.answers import PlannedAnswer
from recipe.longrl.evaluation.catalog import BenchmarkError, find_benchmark
from recipe.longrl.evaluation.client import CUT, SCORED
from recipe.longrl.evaluation.external.tools import read_tool_plan, score_lines
from recipe.longrl.evaluation.judge.figures import make_judge_tables, share_without_verdict
from recipe.longrl.evaluation.judge.verdicts import (
    JudgeRecord,
    Verdict,
    VerdictReader,
    open_question,
    open_verdicts,
    read_judges,
)
from recipe.longrl.evaluation.log import FAILED, digest
from recipe.longrl.evaluation.plan import read_plan, read_record
from recipe.longrl.evaluation.records import Benchmark, Outcome
from recipe.longrl.evaluation.rule_runner import Applied, apply_to_answers, scores_of

SCORES, TABLES = "scores.jsonl", "tables.json"
MAX_FAILED = 0.01
"""Share of failed answers above which there is no headline."""
TOKEN_DRIFT = 0.01
"""Relative difference of counted and served prompt tokens above which an answer is reported."""


def score_set(folder: Path, max_failed: float = MAX_FAILED) -> dict[str, Any]:
    """Score the answers in a set's folder, write its two files, and return the tables."""
    record = read_record(folder)
    benchmark = find_benchmark(record["benchmark"])
    judges = read_judges(folder) if benchmark.judged else []
    tool_plan = read_tool_plan(folder, record)
    with open_verdicts(folder, judges) as verdicts:
        lines: Iterable[dict[str, Any]]
        if tool_plan:
            lines = score_lines(tool_plan)
        else:
            lines = (_score_answer(*answer, benchmark, verdicts) for answer in apply_to_answers(read_plan(folder)))
        write_atomic(folder / SCORES, (encode_line(line).decode() for line in lines))
    tables = make_tables(record, [*iterate_jsonl(folder / SCORES)], benchmark, max_failed, judges)
    if tool_plan:
        tables[f"figures_of_{tool_plan.tool.name}"] = tool_plan.tool.figures(tool_plan)
    write_atomic(folder / TABLES, dumps(tables, indent=1) + "\n")
    return tables


def make_tables(
    record: Mapping[str, Any],
    lines: list[dict[str, Any]],
    benchmark: Benchmark,
    max_failed: float = MAX_FAILED,
    judges: Sequence[JudgeRecord] = (),
) -> dict[str, Any]:
    """The figures of all planned answers. lines: those of scores.jsonl.

    With judges, each has a figure of its own next to those of the rules, and the first one's is the headline.
    """
    states = Counter(line["state"] for line in lines)
    fits = Counter(line["fit"] for line in lines)
    options = record["options"]
    headline_rule = options["rule"] or next(iter(benchmark.rules))
    if headline_rule not in benchmark.rules:
        known = ", ".join(benchmark.rules)
        raise BenchmarkError(f"rule = {headline_rule}: {benchmark.name} has no such rule. Fix: one of {known}")
    by_cells = options["aggregate"] == "cells"
    judged = make_judge_tables(lines, benchmark.judged.rule, judges) if benchmark.judged and judges else None
    if judged:
        headline_rule = judges[0].figure
    names = [*benchmark.rules, *(judge.figure for judge in judges)]
    answers = {rule: answers_of(lines, rule) for rule in names}
    rules = {rule: figures.make_figure(scored, by_cells) for rule, scored in answers.items()}
    rule_failed = _rule_failures(lines)
    no_verdict = share_without_verdict(judged["judges"][headline_rule], len(lines)) if judged else 0.0
    withheld = _why_withheld(
        len(lines), states[FAILED], headline_rule, rule_failed.get(headline_rule), no_verdict, max_failed
    )
    return {
        "set": record["set"],
        "profile": record["profile"],
        "benchmark": record["benchmark"],
        "record_sha256": digest(record),
        "published_figures_are_judged": benchmark.judged is not None,
        "judged": judged,
        "planned": len(lines),
        "scored": states[SCORED],
        "cut": states[CUT],
        "failed": states[FAILED],
        "empty": sum(line["empty"] for line in lines),
        "reasoning_cut": sum(line["reasoning_cut"] for line in lines),
        "token_drift": sum(line["token_drift"] for line in lines),
        "over_window": {
            "policy": options["over_window"],
            "skipped": fits["skip"],
            "cut_in_the_middle": fits["middle"],
            "share": (fits["skip"] + fits["middle"]) / len(lines),
        },
        "rule_failed": rule_failed,
        "headline": None
        if withheld
        else {"rule": headline_rule, "aggregate": options["aggregate"]} | rules[headline_rule],
        "no_headline_because": withheld,
        "rules": rules,
        "repeats": {rule: figures.make_repeats(scored) for rule, scored in answers.items()},
        "parts": {rule: _mean_parts(lines, rule) for rule in names},
        "grounding": _accuracy_by_recall(lines, headline_rule, names),
        "cells": {rule: _figures_by_cell(scored) for rule, scored in answers.items()},
        "curves": {rule: figures.make_curve(scored) for rule, scored in answers.items()},
        "heat_maps": {rule: figures.make_heat_map(scored) for rule, scored in answers.items()},
    }


def _score_answer(
    planned: PlannedAnswer, applied: Applied, benchmark: Benchmark, judges: Sequence[VerdictReader]
) -> dict[str, Any]:
    """A line of scores.jsonl."""
    entry, row, answer = planned.entry, planned.row, planned.answer
    reason = None
    if answer is None:
        reason = "over the window" if entry["fit"] == "skip" else planned.error or "not asked yet"
    outcomes, rule_failed = scores_of(applied)
    verdicts: dict[str, Verdict] = {}
    if benchmark.judged and judges:
        by_rule = outcomes[benchmark.judged.rule]
        question = open_question(row, answer["text"], by_rule, benchmark.judged) if answer else None
        verdicts = {each.judge.figure: each.verdict(question) for each in judges}
        outcomes |= {name: _judged_outcome(by_rule, verdict) for name, verdict in verdicts.items()}
    with_document = planned.first or answer
    served = with_document["prompt_tokens"] if with_document else None
    return {
        "row": row.id,
        "sample": planned.sample,
        "state": answer["state"] if answer else FAILED,
        "error": reason,
        "fit": entry["fit"],
        "empty": answer is not None and not answer["text"].strip(),
        "reasoning_cut": planned.first is not None and planned.first["state"] == CUT,
        "question": entry["question"],
        "cell": row.cell,
        "length": row.length,
        "cluster": row.cluster or row.id,
        "position": row.position,
        "prompt_tokens": entry["prompt_tokens"],
        "token_drift": served is not None and abs(served / entry["prompt_tokens"] - 1) > TOKEN_DRIFT,
        "scores": {name: outcome.score for name, outcome in outcomes.items()},
        "parsed": {name: outcome.parsed for name, outcome in outcomes.items()},
        "parts": {name: outcome.parts for name, outcome in outcomes.items()},
        "rule_failed": rule_failed,
        "verdicts": {name: verdict._asdict() for name, verdict in verdicts.items()},
    }


def _judged_outcome(by_rule: Outcome, verdict: Verdict) -> Outcome:
    """Right by rule or by the judge; without a verdict the answer has 0."""
    score = by_rule.score if verdict.decision == "by rule" else float(verdict.decision == "right")
    return Outcome(score, by_rule.parsed)


def _rule_failures(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """By rule that failed: at how many answers, and the first of them with the reason."""
    failures: dict[str, Any] = {}
    for line in lines:
        for rule, reason in line.get("rule_failed", {}).items():
            failures.setdefault(rule, {"answers": 0, "first": f"row {line['row']}: {reason}"})["answers"] += 1
    return failures


def _why_withheld(
    planned: int,
    failed: int,
    rule: str,
    rule_failed: Mapping[str, Any] | None,
    no_verdict: float,
    max_failed: float,
) -> str | None:
    """Why there is no headline; None if there is one."""
    if failed / planned > max_failed:
        return f"{failed / planned:.1%} of the answers failed, more than {max_failed:.1%}"
    if rule_failed and rule_failed["answers"] / planned > max_failed:
        return f"rule {rule} failed at {rule_failed['answers']} answers, the first at {rule_failed['first']}"
    if no_verdict > max_failed:
        return f"{no_verdict:.1%} of the answers have no verdict of the judge, more than {max_failed:.1%}"
    return None


def answers_of(lines: list[dict[str, Any]], rule: str) -> list[figures.ScoredAnswer]:
    """The lines of scores.jsonl under one rule."""
    return [
        figures.ScoredAnswer(
            row=line["row"],
            sample=line["sample"],
            score=line["scores"][rule],
            parsed=line["parsed"][rule],
            cell=line["cell"],
            cluster=line["cluster"],
            length=line["length"],
            position=line["position"],
        )
        for line in lines
    ]


def _figures_by_cell(answers: list[figures.ScoredAnswer]) -> dict[str, Any]:
    cells: dict[str, list[figures.ScoredAnswer]] = {}
    for answer in answers:
        cells.setdefault(answer.cell or "all", []).append(answer)
    return {cell: figures.make_figure(scored) for cell, scored in cells.items()}


def _mean_parts(lines: list[dict[str, Any]], rule: str) -> dict[str, dict[str, float]]:
    """The mean of each part over all answers that should have it; failed answers count 0."""
    names = sorted({name for line in lines for name in line["parts"][rule]})
    means = {}
    for name in names:
        values = [
            line["parts"][rule].get(name, 0.0)
            for line in lines
            if line["state"] == FAILED or name in line["parts"][rule]
        ]
        means[name] = {"n": len(values), "mean": math.fsum(values) / len(values)}
    return means


def _accuracy_by_recall(lines: list[dict[str, Any]], headline: str, rules: list[str]) -> dict[str, Any] | None:
    """The headline's figures of answers that cite all gold chunks, and of the others; None without citations."""
    # RULER's strict rule has a recall as well, of values.
    citing = next((rule for rule in rules if any("cited" in line["parts"][rule] for line in lines)), None)
    if citing is None:
        return None
    full = [line for line in lines if line["parts"][citing].get("recall") == 1]
    other = [line for line in lines if "recall" in line["parts"][citing] and line["parts"][citing]["recall"] < 1]
    groups = {"full_recall": full, "incomplete_recall": other}
    return {"rule": citing} | {
        name: figures.make_figure(answers_of(group, headline)) if group else None for name, group in groups.items()
    }
