"""Stage pool: find the tasks that suit each document, by its content and its metadata.

GoLongRL's source corpus collection (arXiv 2605.19577, pipeline, phase 1): a pool for each task. A document is in a pool
if it meets the task's criterion. If it meets the conditions of a rule of `assign.pools`, it goes only to the pools of
such rules, as far as it meets their criteria.

| task | criterion |
|---|---|
| ordering, matching, retrieval | many sentences can be quoted |
| ranking, qa (computed) | several names recur |
| exhaustive, math, table | several names recur, or there are years |
| qa, choice (written) | more than half of it is in sentences |
| summary | most of it is in sentences, and not in dialogue |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import Any, Self

from data_gen.config import PipelineConfig
from data_gen.multitask.assign import AssignOptions, Rules
from data_gen.multitask.compose import TaskComposeOptions, computed_tasks, passages_of
from data_gen.multitask.document_features import Features, extract_features
from data_gen.multitask.passages import is_english, looks_like_prompt
from data_gen.multitask.written_tasks.options import WriteOptions
from data_gen.pipeline import PartStage
from data_gen.store import Document, Row, Store, dropped_row

MIN_NAMES, MIN_YEARS, MIN_QUOTES = 5, 3, 8
MIN_PROSE, MIN_PROSE_FOR_SUMMARY, MAX_DIALOGUE = 0.5, 0.7, 0.5
Criterion = Callable[[Features], str]
"""The reason why a document does not suit a task, "" if it does."""


def _quotes(features: Features) -> str:
    return "" if features.quotes >= MIN_QUOTES else "few_quotes"


def _names(features: Features) -> str:
    return "" if features.names >= MIN_NAMES else "few_names"


def _names_or_years(features: Features) -> str:
    return "" if features.years >= MIN_YEARS else _names(features)


def _prose(features: Features) -> str:
    return "" if features.prose >= MIN_PROSE else "little_prose"


def _summary(features: Features) -> str:
    if features.speech > MAX_DIALOGUE:
        return "dialogue"
    return "" if features.prose >= MIN_PROSE_FOR_SUMMARY else "little_prose"


COMPUTED: dict[str, Criterion] = {
    "retrieval": _quotes,
    "qa": _names,
    "exhaustive": _names_or_years,
    "math": _names_or_years,
    "table": _names_or_years,
    "matching": _quotes,
    "ranking": _names,
    "ordering": _quotes,
}
WRITTEN: dict[str, Criterion] = {"qa": _prose, "choice": _prose, "summary": _summary}


class PoolStage(PartStage):
    """Row: `pools` (tasks that suit the document), `why_not` (for the other tasks: task -> reason), `features`. Drops:
    not_english, looks_numbered (its text looks like a part of the prompt), too_short (few passages), no_pool.

    Args:
        computed, written: the tasks that this run computes, and those that a model writes.
        rules: `assign.pools`.
    """

    name = "pool"
    summary = "find the tasks that suit each document."
    after = ("ingest", "dedup")

    def __init__(self, computed: Collection[str], written: Collection[str], rules: Rules, compose: TaskComposeOptions):
        self.criteria = {**{task: COMPUTED[task] for task in computed}, **{task: WRITTEN[task] for task in written}}
        self.computed, self.written, self.rules, self.compose = list(computed), list(written), rules, compose

    @classmethod
    def from_config(cls, config: PipelineConfig, inputs: list[str]) -> Self:
        written, rules = config.block(WriteOptions).enabled_tasks, config.block(AssignOptions).pools
        return cls(computed_tasks(config), written, rules, config.block(TaskComposeOptions))

    def settings(self) -> dict[str, Any]:
        passages = {f"compose.{key}": getattr(self.compose, key) for key in ("passage_words", "min_passages")}
        tasks = {"tasks by a model": self.written, "tasks computed": self.computed}
        return {**tasks, "assign.pools": self.rules, **passages}

    def rows(self, store: Store, part: str, documents: list[Document]) -> Iterator[Row]:
        for document in documents:
            yield self._row(document["ingest"])

    def _row(self, document: Row) -> Row:
        name, text = document["id"], document["text"]
        if not is_english(text):
            return dropped_row(name, "not_english")
        if looks_like_prompt(text):
            return dropped_row(name, "looks_numbered")
        passages = passages_of(text, self.compose)
        if len(passages) < self.compose.min_passages:
            return dropped_row(name, "too_short", f"{len(passages)} passages < {self.compose.min_passages}")
        features = extract_features(passages)
        tasks_by_rule = {task for task, conditions in self.rules.items() if _meets(document, conditions)}
        pools: list[str] = []
        why_not: dict[str, str] = {}
        for task, criterion in self.criteria.items():
            excluded = tasks_by_rule and task not in tasks_by_rule
            if reason := "other_pools" if excluded else criterion(features):
                why_not[task] = reason
            else:
                pools.append(task)
        counts = Counter([*pools, *(f"{task}: {reason}" for task, reason in why_not.items())])
        counts.update(f"{task}: by rule" for task in sorted(tasks_by_rule))
        row = {"id": name, "pools": pools, "why_not": why_not, "features": features._asdict(), "counts": counts}
        return row if pools else dropped_row(name, "no_pool") | row


def _meets(document: Row, conditions: dict[str, tuple[str, ...]]) -> bool:
    """Whether each of the fields has one of its accepted values, or contains one if it is a list."""
    return all(_values(document, field) & set(accepted) for field, accepted in conditions.items())


def _values(document: Row, field: str) -> set[str]:
    """The values of a field such as source, bucket or meta.category; none if there is no such field."""
    value: Any = document
    for key in field.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    values = value if isinstance(value, list) else [value]
    return {str(value) for value in values if value is not None}
