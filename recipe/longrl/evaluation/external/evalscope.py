"""evalscope 1.14.1 (ModelScope, Apache-2.0): general benchmarks and LongMemEval.

What of it is checked and why, as seen when it was run against a server that misbehaves:

* An HTTP 400 whose message tells of a too long context becomes an answer with that message as its text, scored 0 and
  cached. An answer is what ended with `stop` or at its longest length (`max_tokens`); everything else is removed from
  evalscope's files, reported by row, and asked again by the next run.
* A row whose score cannot be computed, or whose judge failed, leaves evalscope's denominator. Here it counts as failed.
* All repeats of a question are sent with one seed, for which a server gives one answer. So repeats have no seed.
* evalscope has no intervals. Ours are computed from its scores of single answers, clustered by question.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from verl_longrl.data.jsonl import encode_line, read_jsonl
from verl_longrl.trainer.checkpoints import write_atomic

from recipe.longrl.evaluation.catalog import BenchmarkError
from recipe.longrl.evaluation.client import ClientOptions
from recipe.longrl.evaluation.external.mmath import MMATH_PACKAGE, write_mmath
from recipe.longrl.evaluation.external.tools import (
    Tool,
    ToolAnswer,
    ToolBenchmark,
    ToolError,
    ToolPlan,
    check_names,
    refuse,
    run_child,
    server_key,
)
from recipe.longrl.evaluation.log import digest
from recipe.longrl.evaluation.models import Model
from recipe.longrl.evaluation.profiles import SetOptions

OPTIONS = ("path", "hub", "subsets", "shots", "judge")
JUDGE_OPTIONS = ("model", "url", "api_key_env")
HUBS = ("modelscope", "huggingface")
USABLE = ("success", "fallback", "degraded")
"""States of a score that evalscope counts."""
ENDS = ("stop", "max_tokens")
MODEL = "model"
"""The model's name in evalscope's folders."""
_RUN = "import sys; from evalscope.run import run_task; run_task(sys.argv[1])"
_PLANNED = re.compile(r": (\d+) samples to evaluate")


def check(benchmark: str, options: SetOptions) -> dict[str, Any]:
    """Check a set's options. Returns the checksum of local data for the record. Raises BenchmarkError."""
    values = options.options
    check_names("evalscope", values, OPTIONS)
    if values.get("hub", HUBS[0]) not in HUBS:
        raise BenchmarkError(f"options.hub = {values['hub']!r}: unknown. Fix: one of {', '.join(HUBS)}")
    if benchmark == "longmemeval":
        judge = values.get("judge")
        if not isinstance(judge, Mapping) or {*judge} != {*JUDGE_OPTIONS}:
            raise BenchmarkError(
                f"options.judge = {judge!r}: a judge decides the answers of {benchmark}. Fix: options.judge="
                "{model: NAME, url: http://host:8000/v1, api_key_env: VARIABLE}"
            )
    elif "judge" in values:
        raise BenchmarkError(f"options.judge = {values['judge']!r}: {benchmark} is scored by rule. Fix: leave it out")
    path = _local_data(benchmark, values)
    return {"local_data_sha256": _checksum(path)} if path else {}


def ask(plan: ToolPlan, model: Model, client: ClientOptions) -> None:
    """Run evalscope until every answer is there and scored. Raises ToolError."""
    judge = plan.record["options"]["options"].get("judge")
    variables = {"EVALSCOPE_API_KEY": server_key(model)}
    if judge:
        # The only place where evalscope looks for a judge's key, apart from the task.
        variables["MODELSCOPE_SDK_TOKEN"] = os.environ.get(judge["api_key_env"], "").strip() or "EMPTY"
    if "HF_TOKEN" in os.environ:
        variables["HF_TOKEN"] = os.environ["HF_TOKEN"]  # GPQA is gated.
    if _local_data(plan.name, plan.record["options"]["options"]):
        variables["HF_HUB_OFFLINE"] = "1"
    try:
        run_child(plan, ["-c", _RUN], make_task(plan, model, client), variables)
    except ToolError:
        _refuse_failures(plan)
        raise
    _refuse_failures(plan)
    if not plan.done:
        answers, planned = read_answers(plan)
        log = plan.folder / "evalscope.log"
        raise ToolError(f"{plan.folder.name}: evalscope has scored {len(answers)} of {planned} answers. Fix: see {log}")


def make_task(plan: ToolPlan, model: Model, client: ClientOptions) -> dict[str, Any]:
    """evalscope's task for a set, without keys."""
    record = plan.record
    options, values, sampling = record["options"], record["options"]["options"], record["sampling"]
    data: dict[str, Any] = {}
    if path := _local_data(plan.name, values):
        data["dataset_id"] = str(path)
    if "subsets" in values:
        data["subset_list"] = values["subsets"]
    if "shots" in values:
        data["few_shot_num"] = values["shots"]
    template = record["model"]["template"]
    generation = {
        "temperature": sampling["temperature"],
        "top_p": sampling["top_p"],
        "extra_body": {**sampling["extra"], **({"chat_template_kwargs": template} if template else {})},
        "timeout": client.timeout_s,
        "retries": client.attempts,
    }
    if options["max_tokens"]:
        generation["max_tokens"] = options["max_tokens"]
    if model.seeds and record["repeats"] == 1:
        generation["seed"] = record["seed"]
    judge: dict[str, Any] = {"strategy": "rule"}
    if "judge" in values:
        named = {"model_id": values["judge"]["model"], "api_url": values["judge"]["url"]}
        judge = {"strategy": "llm", "models": [{**named, "generation_config": {"temperature": 0.0}}]}
    return {
        "model": model.name,
        "model_id": MODEL,
        "api_url": model.urls[0],
        "api_key": None,
        "eval_type": "openai_api",
        "datasets": [plan.name],
        "dataset_args": {plan.name: data},
        "dataset_hub": values.get("hub", HUBS[0]),
        "generation_config": generation,
        "judge": judge,
        "repeats": record["repeats"],
        "limit": options["limit"],
        "seed": record["seed"],
        "eval_batch_size": client.concurrency,
        "work_dir": str(plan.work),
        # evalscope refuses to resume from a folder without this file.
        "use_cache": str(plan.work) if (plan.work / "configs/task_config.yaml").is_file() else None,
        "no_timestamp": True,
        "ignore_errors": False,
    }


def read_answers(plan: ToolPlan) -> tuple[list[ToolAnswer], int]:
    """The answers that are scored, and how many are planned, as evalscope's log has it (0: not yet)."""
    answers = []
    for file in sorted((plan.work / "reviews" / MODEL).glob("*.jsonl")):
        asked = {line["index"]: line for line in _read_predictions(plan, file.name)}
        reviews = {line["index"]: line for line in read_jsonl(file, ("index", "sample_score"))}
        subset = file.stem.removeprefix(f"{plan.name}_")
        answers += [_answer(subset, review, asked[at]) for at, review in reviews.items() if at in asked]
    log = plan.work / "logs/eval_log.log"
    planned = _PLANNED.findall(log.read_text(errors="replace")) if log.is_file() else []
    return answers, int(planned[-1]) if planned else 0


def read_figures(plan: ToolPlan) -> dict[str, Any]:
    """evalscope's own figures by metric, without intervals; rows without a score are not in them."""
    file = plan.work / "reports" / MODEL / f"{plan.name}.json"
    metrics = json.loads(file.read_text())["metrics"] if file.is_file() else []
    return {f"{each['identity']['name']} ({each['identity']['aggregation']})": each["score"] for each in metrics}


def _answer(subset: str, review: Mapping[str, Any], asked: Mapping[str, Any]) -> ToolAnswer:
    sample, output = review["sample_score"], asked["model_output"]
    score, usage = sample["score"], output["usage"] or {}
    prompt = [[each["role"], each["content"]] for each in review["messages"] if each["role"] != "assistant"]
    question = digest([prompt, review["target"]])
    usable = score["status"] in USABLE
    return ToolAnswer(
        row=f"{subset}/{sample['group_id']}",
        sample=sample["generation_index"],
        question=question,
        cell=(sample["sample_metadata"] or {}).get("question_type") or subset,
        cluster=question,
        scores={name: float(value) for name, value in score["value"].items()} if usable else {},
        parsed=str(score["extracted_prediction"] or ""),
        text=score["prediction"] or "",
        cut=output["choices"][0]["stop_reason"] == "max_tokens",
        prompt_tokens=usage.get("input_tokens"),
        completion_tokens=usage.get("output_tokens"),
        seconds=output["time"] or 0.0,
        error=None if usable else f"{score['status']}: {score['explanation'] or ''}",
    )


def _read_predictions(plan: ToolPlan, name: str) -> list[dict[str, Any]]:
    return read_jsonl(plan.work / "predictions" / MODEL / name, ("index", "model_output"))


def _refuse_failures(plan: ToolPlan) -> None:
    """Remove predictions that are not answers, with their scores, and raise ToolError if there are any."""
    refused: list[dict[str, Any]] = []
    for file in sorted((plan.work / "predictions" / MODEL).glob("*.jsonl")):
        lines = _read_predictions(plan, file.name)
        problems = {line["index"]: problem for line in lines if (problem := _find_problem(line["model_output"]))}
        if not problems:
            continue
        for kind in ("reviews", "predictions"):
            path = plan.work / kind / MODEL / file.name
            _keep(path, (line for line in read_jsonl(path) if line["index"] not in problems))
        repeats, subset = plan.record["repeats"], file.stem.removeprefix(f"{plan.name}_")
        for at, problem in problems.items():
            row = f"{subset}/{at // repeats}" + (f", sample {at % repeats}" if repeats > 1 else "")
            refused.append({"row": row, "problem": problem})
    refuse(plan, refused)


def _find_problem(output: Mapping[str, Any]) -> str | None:
    """Why a prediction is not an answer; None if it is one."""
    choices = output["choices"]
    if output["error"] or len(choices) != 1:
        return str(output["error"] or f"{len(choices)} choices")
    ended = choices[0]["stop_reason"]
    return None if ended in ENDS else f"{ended}: {choices[0]['message']['content']}"


def _keep(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    if path.is_file():
        write_atomic(path, (encode_line(line).decode() for line in [*lines]))


def _local_data(benchmark: str, values: Mapping[str, Any]) -> Path | None:
    """The folder of local data; None if evalscope fetches it. Raises BenchmarkError if it is not there."""
    if "path" not in values:
        return None
    if values["path"] == MMATH_PACKAGE:
        return write_mmath(benchmark)
    path = Path(values["path"]).expanduser().resolve()
    if not path.is_dir():
        raise BenchmarkError(
            f"options.path = {values['path']!r}: no such folder. Fix: a clone of the data's repository"
        )
    return path


def _checksum(folder: Path) -> str:
    """Of the names and contents of all files of the data."""
    return digest([[str(file.relative_to(folder)), _sha256(file)] for file in _files(folder)])


def _files(folder: Path) -> Iterator[Path]:
    hidden = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return (file for file in hidden if not any(part.startswith(".") for part in file.relative_to(folder).parts))


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


TOOL = Tool(
    name="evalscope",
    target="eval",
    package="evalscope",
    benchmarks={
        "mmlu": ToolBenchmark("14,042 multiple-choice questions of 57 subjects", ("acc",)),
        "mmlu_pro": ToolBenchmark("12,032 questions of 14 subjects with up to ten choices", ("acc",)),
        "gpqa_diamond": ToolBenchmark("198 questions of biology, physics and chemistry", ("acc",)),
        "aime24": ToolBenchmark("30 competition problems of 2024", ("acc",)),
        "aime25": ToolBenchmark("30 competition problems of 2025", ("acc",)),
        "math_500": ToolBenchmark("500 competition problems of five levels", ("acc",)),
        "ifeval": ToolBenchmark("541 prompts with instructions", ("prompt_level_strict", "prompt_level_loose")),
        "longmemeval": ToolBenchmark("500 questions about past chats, decided by a judge", ("accuracy",)),
    },
    check=check,
    ask=ask,
    answers=read_answers,
    figures=read_figures,
    results=f"*/{MODEL}/*.jsonl",
)
