"""The parts that evalscope and bfcl-eval have in common here: environment, child process, and our scores.

SET/plan.json      the record, as for our own benchmarks; answers of two records are never mixed
SET/task.json      what the tool is asked to do, without keys
SET/TOOL/          the tool's own files, from which it resumes
SET/TOOL.log       its output
SET/refused.jsonl  replies that it took for answers, but which are errors; asked again by the next run
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from verl_longrl.data.jsonl import append_lines, drop_partial_line, dumps, encode_line
from verl_longrl.secrets import redact, without
from verl_longrl.trainer.checkpoints import write_atomic

from recipe.longrl.evaluation.catalog import BenchmarkError
from recipe.longrl.evaluation.client import CUT, SCORED, ClientOptions
from recipe.longrl.evaluation.errors import EvaluationError
from recipe.longrl.evaluation.log import FAILED, digest
from recipe.longrl.evaluation.models import LOG_TAIL, Model, running
from recipe.longrl.evaluation.plan import RECORD, refuse_other_record
from recipe.longrl.evaluation.profiles import SetOptions
from recipe.longrl.evaluation.records import Benchmark, Outcome, Row

TASK, REFUSED = "task.json", "refused.jsonl"
PROGRESS_S = 10.0
"""Seconds between two lines of progress."""
TOOLS = ("evalscope", "bfcl")
"""Modules of this package, each with a `TOOL`."""
_REPOSITORY = Path(__file__).resolve().parents[4]


class ToolError(EvaluationError):
    """A tool is not installed, has failed, or took something else for an answer; the message has the fix."""


@dataclass(frozen=True)
class ToolAnswer:
    """One answer that a tool has asked and scored."""

    row: str
    sample: int
    question: str
    """Digest of what was asked and of the gold answer; `compare` pairs answers by it."""
    cell: str
    cluster: str
    scores: dict[str, float]
    """By rule."""
    parsed: str
    text: str
    cut: bool
    """Whether it reached its longest length."""
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float
    error: str | None = None
    """Why the tool has no score for it; it counts as failed."""


@dataclass(frozen=True)
class ToolBenchmark:
    """A benchmark of a tool."""

    summary: str
    rules: tuple[str, ...]
    """The tool's metrics that we report; the first one is the headline."""


@dataclass(frozen=True)
class Tool:
    """A tool for benchmarks."""

    name: str
    target: str
    """Of scripts/setup.sh, which makes the environment."""
    package: str
    benchmarks: Mapping[str, ToolBenchmark]
    check: Callable[[str, SetOptions], Mapping[str, Any]]
    """(benchmark, options) -> more fields of the record, such as checksums of data. Raises BenchmarkError."""
    ask: Callable[[ToolPlan, Model, ClientOptions], None]
    """Asks and scores what is missing. Raises ToolError."""
    answers: Callable[[ToolPlan], tuple[list[ToolAnswer], int]]
    """The answers that are there, and how many answers are planned (0: not known yet)."""
    figures: Callable[[ToolPlan], dict[str, Any]]
    """The tool's own figures, as it prints them."""
    results: str
    """Pattern of the JSON-lines files to which it appends its answers and scores."""


@dataclass(frozen=True)
class ToolPlan:
    """A planned set of a tool in its folder."""

    folder: Path
    record: dict[str, Any]
    tool: Tool

    @property
    def name(self) -> str:
        """The benchmark's name in the tool."""
        return str(self.record["benchmark"]).partition(":")[2]

    @property
    def work(self) -> Path:
        """The folder of the tool's own files."""
        return self.folder / self.tool.name

    @property
    def done(self) -> bool:
        """Whether every answer is there."""
        answers, planned = self.tool.answers(self)
        return 0 < planned == len(answers)


def find_tool(benchmark: str) -> Tool | None:
    """The tool of a benchmark `TOOL:NAME`; None for one of another kind. Raises BenchmarkError for an unknown name."""
    name, _, wanted = benchmark.partition(":")
    if name not in TOOLS:
        return None
    tool: Tool = importlib.import_module(f"recipe.longrl.evaluation.external.{name}").TOOL
    if wanted not in tool.benchmarks:
        known = ", ".join(f"{name}:{each}" for each in tool.benchmarks)
        raise BenchmarkError(f"benchmark = {benchmark}: unknown. Fix: one of {known}")
    return tool


def describe_benchmark(tool: Tool, benchmark: str) -> Benchmark:
    """The benchmark as `score.make_tables` needs it: its rules have names, but are applied by the tool."""

    def rows(**_: Any) -> Any:
        raise BenchmarkError(f"benchmark = {benchmark}: its rows are read by {tool.name}")

    def rule(text: str, row: Row) -> Outcome:
        raise BenchmarkError(f"benchmark = {benchmark}: its answers are scored by {tool.name}")

    own = tool.benchmarks[benchmark.partition(":")[2]]
    return Benchmark(benchmark, rows, dict.fromkeys(own.rules, rule), own.summary)


def plan_tool(folder: Path, tool: Tool, record: Mapping[str, Any], options: SetOptions) -> ToolPlan:
    """Plan a set: check its options and write its record. Nothing is read or counted, since the tool does that.

    Raises ToolError without the tool's environment, BenchmarkError, and PlanError for answers of another record.
    """
    benchmark = options.benchmark.partition(":")[2]
    if options.closed_book:
        raise BenchmarkError(f"{folder.name}.closed_book = true: {tool.name} asks its own prompts only. Fix: false")
    if options.over_window != "fail":
        raise BenchmarkError(
            f"{folder.name}.over_window = {options.over_window}: {tool.name} cuts and skips no prompts. Fix: fail"
        )
    extra = {**tool.check(benchmark, options), tool.name: _version(tool)}
    plan = ToolPlan(folder, json.loads(dumps({**record, **extra})), tool)
    if (folder / RECORD).is_file() and plan.work.is_dir():
        refuse_other_record(folder, json.loads((folder / RECORD).read_text()), plan.record)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / RECORD, dumps(plan.record, indent=1) + "\n")
    return plan


def read_tool_plan(folder: Path, record: dict[str, Any]) -> ToolPlan | None:
    """The plan in a folder with this record; None if it is not that of a tool."""
    tool = find_tool(record["benchmark"])
    return ToolPlan(folder, record, tool) if tool else None


def run_tools(plans: Mapping[str, ToolPlan], model: Model, client: ClientOptions) -> None:
    """Ask and score what is missing, set by set. Raises ToolError."""
    for plan in plans.values():
        if not plan.done:
            plan.tool.ask(plan, model, client)


def check_names(tool: str, options: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise BenchmarkError for an option that is not one of `known`."""
    for name, value in options.items():
        if name not in known:
            raise BenchmarkError(
                f"options.{name} = {value!r}: {tool} is given no such option. Fix: one of {', '.join(known)}"
            )


def run_child(plan: ToolPlan, arguments: list[str], task: Mapping[str, Any], variables: Mapping[str, str]) -> None:
    """Run the tool's Python with these arguments and the path of the task; it ends when this process does.

    variables: added to its environment, which has none of ours that are secret. Raises ToolError if it fails.
    """
    python = find_environment(plan.tool)
    log = plan.folder / f"{plan.tool.name}.log"
    plan.work.mkdir(parents=True, exist_ok=True)
    for file in plan.work.glob(plan.tool.results):
        drop_partial_line(file)
    write_atomic(plan.folder / TASK, dumps(task, indent=1) + "\n")
    command = [sys.executable, "-m", "recipe.longrl.evaluation.serve", str(python), "-I", *arguments]
    environment = {**without(os.environ), **variables}
    with running([*command, str(plan.folder / TASK)], environment, log) as process:
        while process.poll() is None:
            try:
                process.wait(PROGRESS_S)
            except subprocess.TimeoutExpired:
                answers = sum(file.read_bytes().count(b"\n") for file in plan.work.glob(plan.tool.results))
                print(f"{plan.folder.name}: {plan.tool.name} has {answers} results", file=sys.stderr, flush=True)
    if process.returncode:
        tail = redact("\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL:]))
        raise ToolError(
            f"{plan.folder.name}: {plan.tool.name} ended with status {process.returncode}. Fix: see {log}, which ends "
            f"as follows; then rerun the command, which resumes\n{tail}"
        )


def find_environment(tool: Tool) -> Path:
    """The Python of the tool's environment, beside ours. Raises ToolError without one."""
    ours = [os.environ.get("LONGRL_VENV"), sys.prefix, _REPOSITORY / ".venv"]
    found = [Path(f"{each}-{tool.target}") / "bin/python" for each in ours if each]
    for python in found:
        if python.exists():
            return python
    raise ToolError(f"{found[0].parents[1]}: no environment for {tool.name}. Fix: bash scripts/setup.sh {tool.target}")


def server_key(model: Model) -> str:
    """The key of the model's server; the tools want one even if the server wants none."""
    return os.environ.get(model.api_key_env, "").strip() or "EMPTY"


def refuse(plan: ToolPlan, refused: list[dict[str, Any]]) -> None:
    """Keep replies that are not answers in refused.jsonl and raise ToolError. refused: each with "row" and "problem".

    The caller has removed it from the tool's own files.
    """
    if not refused:
        return
    append_lines(plan.folder / REFUSED, b"".join(encode_line(each) for each in refused))
    named = "; ".join(f"{each['row']}: {redact(each['problem'])[:200]}" for each in refused[:3])
    raise ToolError(
        f"{plan.folder.name}: {plan.tool.name} took {len(refused)} failures for answers: {named}. All are in "
        f"{plan.folder / REFUSED}. Fix: if prompts are too long, a larger --window or a smaller max_tokens; then rerun "
        f"the command, which asks them again"
    )


def score_lines(plan: ToolPlan) -> list[dict[str, Any]]:
    """The lines of scores.jsonl: one for each planned answer; those that are missing have failed."""
    answers, planned = plan.tool.answers(plan)
    rules = plan.tool.benchmarks[plan.name].rules
    line = partial(_score_line, rules)
    lines = [line(answer) for answer in sorted(answers, key=lambda answer: (answer.cell, answer.row, answer.sample))]
    for number in range(max(planned, 1) - len(lines)):
        name = f"missing {number + 1}"
        missing = ToolAnswer(name, 0, digest([str(plan.folder), name]), "", name, {}, "", "", False, None, None, 0.0)
        lines.append(line(missing) | {"state": FAILED, "error": "not asked yet", "empty": False})
    return lines


def measure_tool_cost(plan: ToolPlan) -> dict[str, Any]:
    """As `cost.measure_cost`; the tools do not say when a request began, so there are no seconds from first to last."""
    answers, _ = plan.tool.answers(plan)
    return {
        "answers": len(answers),
        "failed_requests": None,
        "prompt_tokens": sum(answer.prompt_tokens or 0 for answer in answers),
        "answer_tokens": sum(answer.completion_tokens or 0 for answer in answers),
        "request_seconds": round(sum(answer.seconds for answer in answers), 1),
        "seconds": None,
    }


def _score_line(rules: Iterable[str], answer: ToolAnswer) -> dict[str, Any]:
    missing = [rule for rule in rules if rule not in answer.scores]
    error = answer.error or (f"no score {', '.join(missing)}" if missing else None)
    return {
        "row": answer.row,
        "sample": answer.sample,
        "state": FAILED if error else CUT if answer.cut else SCORED,
        "error": error,
        "fit": "whole",
        "empty": not answer.text.strip(),
        "reasoning_cut": False,
        "question": answer.question,
        "cell": answer.cell,
        "length": None,
        "cluster": answer.cluster,
        "position": None,
        "prompt_tokens": answer.prompt_tokens,
        "token_drift": False,
        "scores": {rule: 0.0 if error else answer.scores[rule] for rule in rules},
        "parsed": dict.fromkeys(rules, answer.parsed),
        "parts": {rule: {} for rule in rules},
        "rule_failed": {},
    }


def _version(tool: Tool) -> str:
    """The version of the tool's package in its environment."""
    site = find_environment(tool).parents[1]
    found = sorted(site.glob(f"lib/python3*/site-packages/{tool.package}-*.dist-info"))
    if not found:
        raise ToolError(f"{site}: has no {tool.package}. Fix: bash scripts/setup.sh {tool.target}")
    return found[0].name.removesuffix(".dist-info").rpartition("-")[2]
