"""The tasks whose answers code computes, and the names of all tasks. A task NAME has the reward `golongrl_NAME`."""

from __future__ import annotations

from data_gen.multitask.computed_tasks.counting import counting
from data_gen.multitask.computed_tasks.exhaustive import exhaustive
from data_gen.multitask.computed_tasks.matching import matching
from data_gen.multitask.computed_tasks.ordering import ordering
from data_gen.multitask.computed_tasks.qa import qa
from data_gen.multitask.computed_tasks.ranking import ranking
from data_gen.multitask.computed_tasks.retrieval import retrieval
from data_gen.multitask.computed_tasks.table import table
from data_gen.multitask.computed_tasks.task import TaskFunction

TASKS: dict[str, TaskFunction] = {
    "retrieval": retrieval,
    "qa": qa,
    "exhaustive": exhaustive,
    "math": counting,
    "table": table,
    "matching": matching,
    "ranking": ranking,
    "ordering": ordering,
}

ABILITIES = {
    "retrieval": "precise long-range information retrieval",
    "qa": "evidence-grounded comprehension and reasoning",
    "choice": "evidence-grounded comprehension and reasoning",
    "exhaustive": "high-recall exhaustive retrieval and verification",
    "math": "numerical extraction and quantitative reasoning",
    "table": "multi-table structured extraction",
    "matching": "fragment-level structured matching and induction",
    "ranking": "dimension-quantified retrieval and graded ranking",
    "ordering": "sequence reconstruction and ordering",
    "summary": "long document summarization",
}
"""All tasks, each with the ability it trains, as the released rows name it."""


def data_source(task: str) -> str:
    """The name that selects the task's reward."""
    return f"golongrl_{task}"
