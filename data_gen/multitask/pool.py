"""Stage pool: which tasks suit a document, by what is in it and by what is known about it.

GoLongRL's source corpus collection (arXiv 2605.19577, pipeline, phase 1): a pool for each task. A document is in a pool
if it meets the task's criterion. Where a rule of `assign.pools` speaks of it, it goes to the pools of such rules only,
as far as it meets their criteria.

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
from typing import Any

from data_gen.multitask.compose import ComposeOptions, passages_of
from data_gen.multitask.document_features import Features, features
from data_gen.multitask.passages import is_english, mistakable
from data_gen.pipeline import PartStage
from data_gen.store import Document, Row, Store, drop

NAMES, YEARS, QUOTES = 5, 3, 8
PROSE, MOSTLY_PROSE, DIALOGUE = 0.5, 0.7, 0.5
Criterion = Callable[[Features], str]
"""Why a document does not suit a task, "" where it does."""
Rules = dict[str, dict[str, tuple[str, ...]]]
"""Task -> field of the document -> accepted values; see AssignOptions."""


def _quotes(found: Features) -> str:
    return "" if found.quotes >= QUOTES else "few_quotes"


def _names(found: Features) -> str:
    return "" if found.names >= NAMES else "few_names"


def _names_or_years(found: Features) -> str:
    return "" if found.years >= YEARS else _names(found)


def _prose(found: Features) -> str:
    return "" if found.prose >= PROSE else "little_prose"


def _summary(found: Features) -> str:
    return "dialogue" if found.speech > DIALOGUE else "" if found.prose >= MOSTLY_PROSE else "little_prose"


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


class Pool(PartStage):
    """Row: `pools` (tasks that suit the document), `why_not` (of the others: task -> reason), `features`. Drops:
    not_english, looks_numbered (a reader could take its text for the prompt's own), too_short (few passages), no_pool.

    Args:
        computed, written: the tasks that this run computes, and has a model write.
        rules: `assign.pools`.
    """

    name = "pool"
    after = ("ingest", "dedup")

    def __init__(self, computed: Collection[str], written: Collection[str], rules: Rules, compose: ComposeOptions):
        self.criteria = {**{task: COMPUTED[task] for task in computed}, **{task: WRITTEN[task] for task in written}}
        self.computed, self.written, self.rules, self.compose = list(computed), list(written), rules, compose

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
            return drop(name, "not_english")
        if mistakable(text):
            return drop(name, "looks_numbered")
        passages = passages_of(text, self.compose)
        if len(passages) < self.compose.min_passages:
            return drop(name, "too_short", f"{len(passages)} passages < {self.compose.min_passages}")
        found = features(passages)
        meant = {task for task, conditions in self.rules.items() if _meets(document, conditions)}
        reasons = {
            task: "other_pools" if meant and task not in meant else criterion(found)
            for task, criterion in self.criteria.items()
        }
        why_not = {task: reason for task, reason in reasons.items() if reason}
        pools = [task for task in self.criteria if task not in why_not]
        counts = Counter([*pools, *(f"{task}: {reason}" for task, reason in why_not.items())])
        counts.update(f"{task}: by rule" for task in sorted(meant))
        row = {"id": name, "pools": pools, "why_not": why_not, "features": found._asdict(), "counts": counts}
        return row if pools else drop(name, "no_pool") | row


def _meets(document: Row, conditions: dict[str, tuple[str, ...]]) -> bool:
    """Whether each field named has one of the values accepted, or, where it is a list, among its values."""
    return all(_values(document, field) & set(accepted) for field, accepted in conditions.items())


def _values(document: Row, field: str) -> set[str]:
    """The values of a field such as source, bucket or meta.category; none where there is no such field."""
    value: Any = document
    for key in field.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    values = value if isinstance(value, list) else [value]
    return {str(value) for value in values if value is not None}
