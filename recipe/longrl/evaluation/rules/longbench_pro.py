"""LongBench-Pro's six metrics (arXiv 2601.02872), chosen by the row's task: official and strict.

Official: the lines after the last `[Answer]` (or `[答案]`), or of the whole text without one, in lower case with white
space collapsed. Listing everything is free in most of these metrics. Strict: the repaired metrics that GoLongRL's tasks
are trained with here (`verl_longrl.rewards.tasks.golongrl`).

Summaries (T4) are officially half an embedding similarity and half ROUGE-L. Without an embedding model only ROUGE-L is
computed: report these rows as "T4 without embedding", and never in one mean with official figures.

`row.meta`: `secondary_task` is one of the 25 tasks ("T3.2 Single-Hop Fact QA", or its code), `language` is "English" or
"Chinese".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from verl_longrl.rewards import RewardOptions, check_gold
from verl_longrl.rewards.matching.list_items import published_items
from verl_longrl.rewards.tasks.golongrl import TASKS, longbench_pro_task
from verl_longrl.rewards.tasks.golongrl_f1 import f1_of_items
from verl_longrl.rewards.tasks.golongrl_gold import gold_items
from verl_longrl.rewards.tasks.golongrl_ndcg import published_ndcg
from verl_longrl.rewards.tasks.golongrl_pairwise import published_pairwise
from verl_longrl.rewards.tasks.golongrl_rouge_as_released import released_rouge_l
from verl_longrl.rewards.tasks.golongrl_subem import published_subem

from recipe.longrl.evaluation.records import Outcome, Row
from recipe.longrl.evaluation.rules.reading import after_think

_MARKERS = ("[Answer]", "[答案]")
MAX_LINES = 10_000
"""A longer list earns nothing: no right answer is that long, and the time stays bounded."""
MAX_SUMMARY_CHARS = 50_000
"""A longer summary is cut: its ROUGE-L is low already, and the time stays bounded."""


def first_line_is_right(expected: Sequence[str], listed: Sequence[str]) -> float:
    """The official accuracy: the first line equals the first gold answer."""
    return float(listed[0] == expected[0])


OFFICIAL: dict[str, Callable[[Sequence[str], Sequence[str]], float]] = {
    "golongrl_ranking": published_ndcg,
    "golongrl_ordering": published_pairwise,
    "golongrl_qa": first_line_is_right,
    "golongrl_exhaustive": f1_of_items,
    "golongrl_matching": published_subem,
}
"""Task -> (gold lines, listed lines) -> value in [0, 1]; `golongrl_summary` compares texts."""


def longbench_pro_official(text: str, row: Row) -> Outcome:
    """The official metric of the row's task, on the text after the last `</think>`."""
    task = _task(row)
    answer = _answer_area(after_think(text))
    if task == "golongrl_summary":
        chinese = row.meta.get("language") == "Chinese"
        summary = answer[:MAX_SUMMARY_CHARS]
        return Outcome(max(released_rouge_l(summary, gold, chinese=chinese) for gold in gold_items(row.gold)), answer)
    lines = answer.split("\n")
    if len(lines) > MAX_LINES:
        return Outcome(0.0, answer)
    return Outcome(OFFICIAL[task](*published_items(gold_items(row.gold), lines)), answer)


def longbench_pro_strict(text: str, row: Row) -> Outcome:
    """The repaired metric of the row's task; a text without `[Answer]` earns 0, except for a summary."""
    result = TASKS[_task(row)](text, row.gold, {"language": row.meta.get("language")}, RewardOptions())
    return Outcome(result.value, _answer_area(after_think(text)), result.parts)


def _task(row: Row) -> str:
    """The task that scores a row. Raises ValueError, with the row's id, for an unknown one or an unusable gold."""
    try:
        task = longbench_pro_task(row.meta.get("secondary_task"))
        check_gold(task, row.gold, {})
    except ValueError as error:
        raise ValueError(f"row {row.id!r}: {error}") from None
    return task


def _answer_area(text: str) -> str:
    marker = next((marker for marker in _MARKERS if marker in text), None)
    return (text.rpartition(marker)[2] if marker else text).strip()
