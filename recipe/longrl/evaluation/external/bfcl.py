"""bfcl-eval 2026.3.23 (Berkeley, Apache-2.0): the memory categories of BFCL V4, 155 questions for each kind of memory.

First the model leads 37 conversations, in which it may store what it hears with memory tools; then it is asked about
them. An answer is right if it has a gold text as whole words (punctuation and case aside), so long lists are paid for.

What is checked: bfcl-eval writes a failed request as the result "Error during inference: ..." and scores it as wrong.
Here such a question is removed and asked again by the next run; where a conversation has failed, so are all of its kind
of memory, because the questions are about what was stored.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from verl_longrl.data.jsonl import encode_line, read_jsonl
from verl_longrl.trainer.checkpoints import write_atomic

from recipe.longrl.evaluation.catalog import BenchmarkError
from recipe.longrl.evaluation.client import ClientOptions
from recipe.longrl.evaluation.external.tools import (
    Tool,
    ToolAnswer,
    ToolBenchmark,
    ToolPlan,
    check_names,
    refuse,
    run_child,
    server_key,
)
from recipe.longrl.evaluation.log import digest
from recipe.longrl.evaluation.models import Model
from recipe.longrl.evaluation.profiles import SetOptions

KINDS = ("kv", "vector", "rec_sum")
"""Of memory; `vector` embeds with all-MiniLM-L6-v2 from the hub."""
QUESTIONS = 155
RULE = "official"
_CHILD = Path(__file__).with_name("bfcl_child.py")
_ERROR = "Error during inference"


def check(benchmark: str, options: SetOptions) -> dict[str, Any]:
    """Check a set's options. Raises BenchmarkError."""
    values = options.options
    check_names("bfcl-eval", values, ("kinds", "function_calling"))
    kinds = values.get("kinds", KINDS)
    if not isinstance(kinds, list | tuple) or not kinds or not {*kinds} <= {*KINDS}:
        raise BenchmarkError(f"options.kinds = {kinds!r}: expected kinds of memory. Fix: some of {', '.join(KINDS)}")
    if options.repeats != 1 or options.limit is not None:
        value = f"repeats = {options.repeats}, limit = {options.limit}"
        raise BenchmarkError(f"{value}: {benchmark} is measured as a whole and once. Fix: repeats=1 limit=null")
    return {}


def ask(plan: ToolPlan, model: Model, client: ClientOptions) -> None:
    """Run bfcl-eval until every answer is there and scored. Raises ToolError."""
    record, values = plan.record, plan.record["options"]["options"]
    template = record["model"]["template"]
    request = {
        "temperature": record["sampling"]["temperature"],
        "top_p": record["sampling"]["top_p"],
        "extra_body": {**record["sampling"]["extra"], **({"chat_template_kwargs": template} if template else {})},
        "timeout": client.timeout_s,
    }
    if record["options"]["max_tokens"]:
        request["max_tokens"] = record["options"]["max_tokens"]
    if model.seeds:
        request["seed"] = record["seed"]
    task = {
        "model": model.name,
        "request": request,
        "categories": [f"memory_{kind}" for kind in _kinds(plan)],
        "concurrency": client.concurrency,
        "function_calling": bool(values.get("function_calling", False)),
    }
    variables = {
        "OPENAI_API_KEY": server_key(model),
        "OPENAI_BASE_URL": model.urls[0],
        "BFCL_PROJECT_ROOT": str(plan.work.resolve()),
        # As bfcl-eval sets them itself, too late for what is imported before.
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
    }
    run_child(plan, [str(_CHILD)], task, variables)
    _refuse_failures(plan)


def read_answers(plan: ToolPlan) -> tuple[list[ToolAnswer], int]:
    """The answers that are scored, and how many are planned."""
    answers: list[ToolAnswer] = []
    for kind in _kinds(plan):
        score = plan.work / "score" / _file(kind, "score")
        if not score.is_file():
            continue
        # The first line is the summary, the others are the wrong answers.
        wrong = {line["id"] for line in read_jsonl(score) if "id" in line}
        results = read_jsonl(plan.work / "result" / _file(kind, "result"), ("id", "result"))
        answers += [_answer(kind, line, line["id"] in wrong) for line in results]
    return answers, QUESTIONS * len(_kinds(plan))


def read_figures(plan: ToolPlan) -> dict[str, Any]:
    """bfcl-eval's own accuracy for each kind of memory."""
    files = {kind: plan.work / "score" / _file(kind, "score") for kind in _kinds(plan)}
    return {
        f"memory_{kind}": json.loads(file.read_text().partition("\n")[0])["accuracy"]
        for kind, file in files.items()
        if file.is_file()
    }


def _answer(kind: str, line: dict[str, Any], wrong: bool) -> ToolAnswer:
    replies = [reply for turn in line["result"] for reply in turn]
    last = replies[-1] if replies else ""
    text = last if isinstance(last, str) else json.dumps(last)
    return ToolAnswer(
        row=line["id"],
        sample=0,
        question=digest(["bfcl", line["id"]]),
        cell=f"memory_{kind}",
        cluster=line["id"].split("-")[1],
        scores={RULE: float(not wrong)},
        parsed=text,
        text=text,
        cut=line["cut"] > 0,
        prompt_tokens=_total(line["input_token_count"]),
        completion_tokens=_total(line["output_token_count"]),
        seconds=_total(line["latency"]),
    )


def _refuse_failures(plan: ToolPlan) -> None:
    """Remove results that are errors, with what depends on them, and raise ToolError if there are any."""
    refused: list[dict[str, Any]] = []
    for kind in _kinds(plan):
        results = plan.work / "result" / _file(kind, "result")
        failed = {
            file: [line for line in read_jsonl(file) if str(line["result"]).startswith(_ERROR)]
            for file in (results.with_name(results.name.replace("_result", "_prereq_result")), results)
        }
        lines = [line for of_file in failed.values() for line in of_file]
        refused += [{"row": line["id"], "problem": line["result"]} for line in lines]
        if not lines:
            continue
        (plan.work / "score" / _file(kind, "score")).unlink(missing_ok=True)
        if len(lines) > len(failed[results]):
            shutil.rmtree(results.parent)
        else:
            names = {line["id"] for line in lines}
            kept = [encode_line(line).decode() for line in read_jsonl(results) if line["id"] not in names]
            write_atomic(results, kept)
    refuse(plan, refused)


def _kinds(plan: ToolPlan) -> list[str]:
    return list(plan.record["options"]["options"].get("kinds", KINDS))


def _file(kind: str, what: str) -> str:
    return f"model/agentic/memory/{kind}/BFCL_v4_memory_{kind}_{what}.json"


def _total(counts: Any) -> Any:
    return sum(map(_total, counts)) if isinstance(counts, list) else counts


TOOL = Tool(
    name="bfcl",
    target="bfcl",
    package="bfcl_eval",
    benchmarks={"memory": ToolBenchmark("155 questions about earlier conversations, for each kind of memory", (RULE,))},
    check=check,
    ask=ask,
    answers=read_answers,
    figures=read_figures,
    results="result/model/agentic/memory/*/*_result.json",
)
