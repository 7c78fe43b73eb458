"""Rewards: one function from a response to a `Score`, for training, evaluation and the data pipelines alike.

`score` runs in this process and decides answers by rule. `score_async` adds what training needs: isolation (a response
that hangs its scorer is killed at its deadline) and a judge (its verdict is A). Nothing here imports torch, ray or
verl. Modules with larger dependencies are imported by name: `judge.client.JudgeClient`,
`isolation.scorer_pool.IsolatedScorer` and `manager.LongRLRewardManager`, which is for verl.

    from verl_longrl.rewards import score
    score("longrlvr", response, "Paris", {"ref_chunks": [3, 17]}).value

Where things are: `tasks/` has one metric in a file; `matching/` reads responses and decides what counts as equal;
`judge/` asks a model; `isolation/` runs scorers in processes that can be killed.
"""

from verl_longrl.rewards.failure_guard import FailureGuard
from verl_longrl.rewards.options import AnswerOptions, JudgeOptions, RewardOptions
from verl_longrl.rewards.registry import GoldError, check_gold, load_scorers, registered, resolve, scorer
from verl_longrl.rewards.score import FAILURES, METRIC_KEYS, PART_KEYS, STATUSES, Score
from verl_longrl.rewards.scoring import JudgeError, score, score_async
from verl_longrl.rewards.tasks import (  # noqa: F401  registers the scorers
    golongrl,
    longrlvr,
    loongrl_choice,
    loongrl_qa,
    loongrl_retrieval,
    math,
)

__all__ = [
    "FAILURES",
    "METRIC_KEYS",
    "PART_KEYS",
    "STATUSES",
    "AnswerOptions",
    "FailureGuard",
    "GoldError",
    "JudgeError",
    "JudgeOptions",
    "RewardOptions",
    "Score",
    "check_gold",
    "load_scorers",
    "registered",
    "resolve",
    "score",
    "score_async",
    "scorer",
]
