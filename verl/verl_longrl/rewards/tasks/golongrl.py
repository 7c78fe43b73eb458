"""GoLongRL's tasks: nine kinds of long-context task, each rewarded by its own metric in [0, 1] (arXiv 2605.19577).

| task | metric | answered in | released names | module |
|---|---|---|---|---|
| golongrl_retrieval | exact match | the bare text | EM | `golongrl_exact_match.py` |
| golongrl_qa | accuracy | the first line after [Answer] | Accuracy: T3, T11 | `golongrl_accuracy.py` |
| golongrl_choice | accuracy | "The correct answer is (X)" | selection | `golongrl_choice.py` |
| golongrl_exhaustive | F1 | lines after [Answer] | F1_Score: T5, T6.2, T7, T9 | `golongrl_f1.py` |
| golongrl_math | math-verify | the last box, "the answer is" | names with math_verify | `golongrl_math_verify.py` |
| golongrl_table | IoU of rows | JSON, Markdown, CSV | multitableqa_pretraining | `golongrl_table_iou.py` |
| golongrl_matching | SubEM | lines after [Answer] | SubEM: T6.1, T8, T10 | `golongrl_subem.py` |
| golongrl_ranking | NDCG | lines after [Answer] | NDCG: T1 | `golongrl_ndcg.py` |
| golongrl_ordering | pairs in order | lines after [Answer] | Pairwise_Accuracy: T2, T6.3 | `golongrl_pairwise.py` |
| golongrl_summary | ROUGE-L | all after [Answer], if any | Summary: T4 | `golongrl_rouge_l.py` |

Accuracy is one kind of task in the paper; its two formats are two tasks here, as in the released code. Released rows of
`longbench_pro` name one of LongBench Pro's 25 tasks in `extra_info.reward_mode`.

By default the metrics are repaired: only the text after the last `</think>` counts, normalization forgives how an
answer is written, and listing more than was asked for never raises a metric. `paper_exact` selects each metric as
released, with its gate (one `</think>`, at most one `<think>`). A row that asks for nothing gives scorer_error, never a
0. No answer is judged by a model: `answer.by` and `answer.mode` do not apply to these tasks.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.registry import GoldError, Scorer, check_gold, resolve, scorer
from verl_longrl.rewards.score import Score
from verl_longrl.rewards.tasks.golongrl_accuracy import golongrl_qa
from verl_longrl.rewards.tasks.golongrl_choice import golongrl_choice
from verl_longrl.rewards.tasks.golongrl_exact_match import golongrl_retrieval
from verl_longrl.rewards.tasks.golongrl_f1 import golongrl_exhaustive
from verl_longrl.rewards.tasks.golongrl_math_verify import golongrl_math
from verl_longrl.rewards.tasks.golongrl_ndcg import golongrl_ranking
from verl_longrl.rewards.tasks.golongrl_pairwise import golongrl_ordering
from verl_longrl.rewards.tasks.golongrl_rouge_l import golongrl_summary
from verl_longrl.rewards.tasks.golongrl_subem import golongrl_matching
from verl_longrl.rewards.tasks.golongrl_table_iou import golongrl_table

TASKS: dict[str, Scorer] = {
    "golongrl_retrieval": golongrl_retrieval,
    "golongrl_qa": golongrl_qa,
    "golongrl_choice": golongrl_choice,
    "golongrl_exhaustive": golongrl_exhaustive,
    "golongrl_math": golongrl_math,
    "golongrl_table": golongrl_table,
    "golongrl_matching": golongrl_matching,
    "golongrl_ranking": golongrl_ranking,
    "golongrl_ordering": golongrl_ordering,
    "golongrl_summary": golongrl_summary,
}

LONGBENCH_PRO: dict[str, str] = {
    "T1.1 Global Cohesive Retrieval": "golongrl_ranking",
    "T1.2 Key-Snippet Retrieval": "golongrl_ranking",
    "T2.1 Global Timeline Reconstruction": "golongrl_ordering",
    "T2.2 Local Causal Chain Sorting": "golongrl_ordering",
    "T3.1 Multi-Doc Integration QA": "golongrl_qa",
    "T3.2 Single-Hop Fact QA": "golongrl_qa",
    "T4.1 Global-Coverage Constrained Summary": "golongrl_summary",
    "T4.2 Query-Focused Summary": "golongrl_summary",
    "T5.1 Full-Sentence Citation Alignment": "golongrl_exhaustive",
    "T5.2 Key-Statement Citation Alignment": "golongrl_exhaustive",
    "T6.1 Large-Scale Document Clustering": "golongrl_matching",
    "T6.2 Targeted Subset Cluster Identification": "golongrl_exhaustive",
    "T6.3 Global Frequency Analysis": "golongrl_ordering",
    "T7.1 Global Conflict & Inconsistency Localization": "golongrl_exhaustive",
    "T7.2 Targeted Rule or Condition Violation Detection": "golongrl_exhaustive",
    "T7.3 Comprehensive Error & Anomaly Sweep": "golongrl_exhaustive",
    "T8.1 Structured Multi-Source Consistency Verification": "golongrl_matching",
    "T8.2 Single-Source Targeted Aggregation": "golongrl_matching",
    "T8.3 Long-Context Procedural State Tracking": "golongrl_matching",
    "T9.1 Dependency-Aware Multi-Version Impact Analysis": "golongrl_exhaustive",
    "T9.2 Localized Interface Change Detection": "golongrl_exhaustive",
    "T10.1 Large-Scale In-Context Rule Induction": "golongrl_matching",
    "T10.2 Targeted Example-Based Rule Induction": "golongrl_matching",
    "T11.1 Long-Range Entity & Commitment Tracking": "golongrl_qa",
    "T11.2 Short-Range Reference Resolution & State Query": "golongrl_qa",
}
"""Name of a LongBench Pro task, as in the `extra_info.reward_mode` of released rows -> the task that scores it."""

_BY_CODE = {name.partition(" ")[0]: task for name, task in LONGBENCH_PRO.items()}


def longbench_pro_task(reward_mode: Any) -> str:
    """The task of a released row, by LongBench Pro's name for it or by the code before that name ("T3.1").

    Raises GoldError for any other name, with the nearest valid one.
    """
    name = str(reward_mode).strip()
    task = LONGBENCH_PRO.get(name) or _BY_CODE.get(name)
    if not task:
        near = difflib.get_close_matches(name, LONGBENCH_PRO, n=1, cutoff=0.0)[0]
        problem, expected = "is not one of LongBench Pro's 25 tasks", f"one of them; the nearest is {near!r}"
        raise GoldError(reward_mode, problem, expected, column="extra_info.reward_mode")
    return task


def task_name(data_source: str, extra_info: Mapping[str, Any]) -> str:
    """The task that a sample belongs to, for statistics by task. Never raises.

    It is `extra_info.task` where the row names one, otherwise GoLongRL's task for one of its data sources, otherwise
    the data source.
    """
    if extra_info.get("task"):
        return str(extra_info["task"])
    try:
        function = resolve(data_source)
        if function is longbench_pro:
            return longbench_pro_task(extra_info.get("reward_mode"))
    except (LookupError, ValueError):
        # The row cannot be scored, and its score says why.
        return data_source
    return next((task for task, scorer_of_task in TASKS.items() if scorer_of_task is function), data_source)


def _longbench_pro_gold(ground_truth: Any, extra_info: Mapping[str, Any]) -> None:
    check_gold(longbench_pro_task(extra_info.get("reward_mode")), ground_truth, extra_info)


@scorer("longbench_pro", gold=_longbench_pro_gold)
def longbench_pro(response: str, ground_truth: Any, extra_info: Mapping[str, Any], options: RewardOptions) -> Score:
    """Score a released row by the metric of the task that `extra_info.reward_mode` names."""
    return TASKS[longbench_pro_task(extra_info.get("reward_mode"))](response, ground_truth, extra_info, options)
