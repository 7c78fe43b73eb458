"""Suites: small sets that the vLLM replicas of a training run answer at its checkpoints, with the weights of that step.

    OUTPUT_DIR/evaluate/planned/SUITE    the rows and their record, as `plan` writes them
    OUTPUT_DIR/evaluate/step_20/SUITE    the answers of step 20, scores and tables, as `run` writes them

So `evaluate/step_20` is a run's folder for `report`, `compare` and `length`. Rows are planned, counted and scored by
the code of `run`. They are of the development slice, which `run` leaves out with slice=reported. A suite that fails
costs its figures and a line, never the training; settings that are wrong are found by the preflight.
"""

from __future__ import annotations

import asyncio
import difflib
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from verl_longrl.data.jsonl import dumps
from verl_longrl.secrets import redact
from verl_longrl.trainer.checkpoints import write_atomic
from verl_longrl.trainer.console_lines import print_line
from verl_longrl.trainer.evaluate_options import EvaluateOptions

from recipe.longrl.evaluation.catalog import find_benchmark, read_rows
from recipe.longrl.evaluation.client import describe_reply
from recipe.longrl.evaluation.errors import EvaluationError
from recipe.longrl.evaluation.log import FAILED, RequestLog
from recipe.longrl.evaluation.models import make_record as make_model_record
from recipe.longrl.evaluation.models import on_cpu
from recipe.longrl.evaluation.plan import (
    ANSWERS,
    INDEX,
    RECORD,
    ROWS,
    ChatCounter,
    SetPlan,
    iterate_entries,
    make_plan,
    read_plan,
)
from recipe.longrl.evaluation.profiles import Profile, SetOptions, choose_sets, read_profile
from recipe.longrl.evaluation.records import Reply, Row
from recipe.longrl.evaluation.run import make_record, open_samples
from recipe.longrl.evaluation.score import TABLES, score_set
from recipe.longrl.evaluation.settings import SUITES
from recipe.longrl.settings import plain

PLANNED = "planned"
POLL_S = 1.0
"""Seconds between two looks at whether the run is asked to stop."""

Generate = Callable[[str, list[int], dict[str, Any]], Awaitable[list[int]]]
"""(unique name, prompt ids, vLLM's sampling parameters) -> response ids."""


class Abandoned(Exception):
    """The run is asked to stop while a suite is being answered."""


@dataclass(frozen=True)
class SuitePlanner:
    """Plans the suites of a run for its tokenizer, chat template and lengths.

    config: a resolved configuration whose lengths are known.
    """

    config: DictConfig
    options: EvaluateOptions
    tokenizer: Any

    def read(self) -> tuple[Profile, dict[str, SetOptions]]:
        """The suites' options by name. Raises EvaluationError."""
        from recipe.longrl.evaluation.benchmarks import REGISTRY

        options, place = self.options, "longrl.evaluate.profile"
        known = [*read_profile(options.profile, place=place).sets, *options.sets, *REGISTRY]
        for name in options.suites:
            if name not in known:
                close = difflib.get_close_matches(name, known, 1) or [", ".join(dict.fromkeys(known))]
                raise EvaluationError(
                    f"longrl.evaluate.suites = {name}: neither a set of profile {options.profile} nor a benchmark. "
                    f"Fix: {close[0]}"
                )
        defaults: dict[str, Any] = {
            name: {
                "slice": "development",
                "limit": options.limit,
                "max_tokens": self.config.data.max_response_length,
                **({"benchmark": name} if name in REGISTRY else {}),
            }
            for name in options.suites
        }
        profile = read_profile(options.profile, {"sets": options.sets}, defaults={"sets": defaults}, place=place)
        sets = choose_sets(profile, options.suites)
        for name, suite in sets.items():
            if "chat_template_kwargs" in suite.sampling.extra:
                raise EvaluationError(
                    f"longrl.evaluate.sets.{name}.sampling.extra.chat_template_kwargs: not used in training. Fix: "
                    "data.apply_chat_template_kwargs, as for rollouts"
                )
        return profile, sets

    def plan(self, folder: Path, profile: Profile, name: str, suite: SetOptions) -> SetPlan:
        """Plan one suite in a folder that does not exist yet. Raises EvaluationError.

        The error names the suite, and for a row over the rollout engine's window the row, its tokens and the window.
        """
        window = self.config.actor_rollout_ref.rollout.max_model_len
        template = plain(self.config.data.apply_chat_template_kwargs)
        # Only vLLM's GPU build has a seed for each request.
        seeds = self.config.actor_rollout_ref.rollout.name == "vllm" and not on_cpu()
        model = make_model_record({"model": self.config.longrl.output_dir}, self.tokenizer, window, template, seeds)
        rows = spread_rows(
            read_rows(find_benchmark(suite.benchmark), suite.options, self.tokenizer, profile.seed, suite.slice),
            suite.limit or self.options.limit,
        )
        key = f"longrl.evaluate.sets.{name}"
        if not rows:
            raise EvaluationError(f"{key}: no row in slice {suite.slice}. Fix: more samples, or {key}.slice=all")
        fix = (
            f"{key}.options.lengths, .max_tokens or .over_window=skip or middle; the window is "
            "actor_rollout_ref.rollout.max_model_len, by default longest prompt + longest response"
        )
        record = make_record(profile, name, suite, model)
        return make_plan(folder, iter(rows), ChatCounter(self.tokenizer, template), window, suite, record, fix)


def spread_rows(rows: Iterable[Row], limit: int) -> list[Row]:
    """At most `limit` rows, spread evenly over the cells, and within each over its clusters; in their order.

    Holds a few times `limit` rows of each cell at once.
    """
    cells: dict[str, list[tuple[int, int, Row]]] = {}
    seen: dict[tuple[str, str], int] = defaultdict(int)
    for number, row in enumerate(rows):
        kept = cells.setdefault(row.cell, [])
        kept.append((seen[row.cell, row.cluster or row.id], number, row))
        seen[row.cell, row.cluster or row.id] += 1
        if len(kept) >= 2 * limit:
            kept.sort()
            del kept[limit:]
    chosen: list[tuple[int, Row]] = []
    for kept in cells.values():
        kept.sort()
    for rank in range(limit):
        candidates = [kept[rank][1:] for kept in cells.values() if rank < len(kept)]
        count = min(limit - len(chosen), len(candidates))
        chosen += (candidates[at * len(candidates) // count] for at in range(count))
    return [row for _, row in sorted(chosen, key=lambda numbered: numbered[0])]


class Suites:
    """The suites of one run. Only `evaluate` and `drop_after` change its folder."""

    def __init__(self, planner: SuitePlanner, last_step: int) -> None:
        self.planner = planner
        self.folder = Path(planner.config.longrl.output_dir) / SUITES
        self._every: int = planner.options.every or planner.config.trainer.save_freq
        self._last_step = last_step
        self._plans: dict[str, SetPlan] | None = None
        self.answered = 0
        """Answers since the start, for the watchdog."""
        self._last_error = ""

    def due(self, step: int) -> bool:
        """Whether the suites are answered after this step (0: before the first one)."""
        return step in (0, self._last_step) or (self._every > 0 and step % self._every == 0)

    def drop_after(self, step: int) -> None:
        """Delete the results of steps that are about to be repeated; at step 0 those are all."""
        for folder in self.folder.glob("step_*"):
            if step == 0 or int(folder.name.removeprefix("step_")) > step:
                shutil.rmtree(folder)

    def evaluate(self, step: int, generate: Generate, why_stop: Callable[[], str | None]) -> dict[str, float]:
        """Answer and score what is not scored yet at a step that is due. Returns metrics; {} if nothing was to do.

        why_stop: returns the reason why the run should end now, if there is one. Never raises because of a suite.
        """
        if not self.due(step):
            return {}
        if self._plans is None:
            self._plans = self._plan_all()
        metrics: dict[str, float] = {}
        for name, plan in self._plans.items():
            folder, started = self.folder / f"step_{step}" / name, time.time()
            if (folder / TABLES).is_file():
                continue
            try:
                tables = asyncio.run(self._answer(self._prepare(plan, folder, step), generate, why_stop))
            except Abandoned as reason:
                print_line(f"evaluation at step {step}: {name} abandoned: {reason}")
                break
            except Exception as error:  # noqa: BLE001  a suite must not end the training
                print_line(f"evaluation at step {step}: {name} failed: {redact(f'{type(error).__name__}: {error}')}")
                metrics[f"evaluate/{name}/failed_share"] = 1.0
                continue
            metrics |= suite_metrics(name, tables)
            metrics[f"evaluate/{name}/seconds"] = time.time() - started
            line = suite_line(f"evaluation at step {step}", name, tables, time.time() - started)
            print_line(line if tables["headline"] else f"{line}, the last with: {self._last_error}")
        return metrics

    def _plan_all(self) -> dict[str, SetPlan]:
        plans = {}
        # Rows of earlier steps are linked to those of an earlier start, which must not be written over.
        shutil.rmtree(self.folder / PLANNED, ignore_errors=True)
        try:
            profile, suites = self.planner.read()
        except EvaluationError as error:
            print_line(f"no suite is evaluated: {error}")
            return {}
        for name, suite in suites.items():
            try:
                plans[name] = self.planner.plan(self.folder / PLANNED / name, profile, name, suite)
            except Exception as error:  # noqa: BLE001  as above; the preflight has planned the same rows
                print_line(f"suite {name} is not evaluated: {redact(f'{type(error).__name__}: {error}')}")
        return plans

    def _prepare(self, plan: SetPlan, folder: Path, step: int) -> SetPlan:
        """The plan of a step, in its folder; answers that an earlier start received stay."""
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / RECORD).is_file():
            for name in (ROWS, INDEX):
                (folder / name).unlink(missing_ok=True)
                try:
                    os.link(plan.folder / name, folder / name)
                except OSError:
                    # Some file systems have no links.
                    shutil.copyfile(plan.folder / name, folder / name)
            record = plan.record | {"model": plan.record["model"] | {"revision": f"step {step}"}}
            write_atomic(folder / RECORD, dumps(record, indent=1) + "\n")
        return read_plan(folder)

    async def _answer(self, plan: SetPlan, generate: Generate, why_stop: Callable[[], str | None]) -> dict[str, Any]:
        """Answer what has no answer yet, and score."""
        entries = {entry["row"]["id"]: entry for entry in iterate_entries(plan.folder)}
        async with RequestLog(plan.folder / ANSWERS) as log:

            async def ask(key: str, row: str, sample: int) -> None:
                outcome = await self._ask(plan.record, entries[row], sample, generate)
                log.add({"key": key, "row": row, "sample": sample, **outcome})
                self._last_error = outcome.get("error", self._last_error)
                self.answered += 1

            waiting = {
                asyncio.create_task(ask(key, row.id, sample)) for key, row, sample in open_samples(plan, log.answers)
            }
            try:
                while waiting:
                    done, waiting = await asyncio.wait(waiting, timeout=POLL_S)
                    for task in done:
                        task.result()
                    if waiting and (reason := why_stop()) is not None:
                        raise Abandoned(reason)
            finally:
                for task in waiting:
                    task.cancel()
                await asyncio.gather(*waiting, return_exceptions=True)
        return score_set(plan.folder)

    async def _ask(
        self, record: Mapping[str, Any], entry: Mapping[str, Any], sample: int, generate: Generate
    ) -> dict[str, Any]:
        """The outcome of one answer, as it is logged."""
        tokenizer, sampling = self.planner.tokenizer, record["sampling"]
        template = record["model"]["template"]
        prompt = ChatCounter(tokenizer, template).encode(entry["row"]["messages"])
        parameters = {
            "temperature": sampling["temperature"],
            "top_p": sampling["top_p"],
            **sampling["extra"],
            "max_tokens": entry["max_tokens"],
        }
        if record["model"]["seeds"]:
            parameters["seed"] = record["seed"] + sample
        started = time.time()
        try:
            ids = await generate(f"{record['set']}-{entry['row']['id']}-{sample}", prompt, parameters)
        except Exception as error:  # noqa: BLE001  whatever the engine or Ray raises, this answer failed
            outcome = {"state": FAILED, "error": redact(f"{type(error).__name__}: {str(error)[-300:]}")}
        else:
            # verl does not say how a response ended.
            cut = len(ids) >= entry["max_tokens"] and ids[-1] != tokenizer.eos_token_id
            text = tokenizer.decode(ids, skip_special_tokens=True)
            reply = Reply(text, "length" if cut else "stop", prompt_tokens=len(prompt), completion_tokens=len(ids))
            outcome = describe_reply(reply)
        return {**outcome, "started": round(started, 3), "seconds": round(time.time() - started, 3)}


def suite_metrics(name: str, tables: Mapping[str, Any]) -> dict[str, float]:
    """Metrics of a scored suite. Where too many answers failed, there are counts but no score."""
    rows, prefix = tables["planned"], f"evaluate/{name}"
    metrics = {f"{prefix}/rows": float(rows)}
    for state in ("failed", "cut", "empty"):
        metrics[f"{prefix}/{state}_share"] = tables[state] / rows
    if tables["headline"] is None:
        return metrics
    for rule, figure in tables["rules"].items():
        metrics |= {f"{prefix}/{rule}/{value}": figure[value] for value in ("mean", "low", "high")}
        curve = tables["curves"][rule]
        for length, point in (curve["points"] if curve else {}).items():
            metrics[f"{prefix}/{rule}/length_{length}"] = point["mean"]
    return metrics


def suite_line(label: str, name: str, tables: Mapping[str, Any], seconds: float) -> str:
    """One readable line: `evaluation at step 20: ruler official 0.412 strict 0.398  64 rows  3.1 s`."""
    if tables["headline"] is None:
        return f"{label}: {name} has no score: {tables['no_headline_because']}"
    means = " ".join(f"{rule} {figure['mean']:.3f}" for rule, figure in tables["rules"].items())
    return f"{label}: {name} {means}  {tables['planned']} rows  {seconds:.1f} s"
