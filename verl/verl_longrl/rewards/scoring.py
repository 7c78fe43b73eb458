"""From a sample to its `Score`: here and now, or with isolation and a judge.

A scorer is a pure function, so being judged needs no code in it. Where answers are judged, the scorer runs
three times in one go: by rule, as if the judge had said no, and as if it had said yes. The judge then picks
one of the last two; when it fails, the first one stands and the status says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from verl_longrl.rewards.matching.answer_match import equals_gold, gold_answers
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.registry import resolve
from verl_longrl.rewards.score import Score

_DEFAULTS = RewardOptions()


class Job(NamedTuple):
    """One decoded completion and what it is scored against; ground_truth and extra_info as in the parquet row."""

    data_source: str
    response: str
    ground_truth: Any
    extra_info: Mapping[str, Any] = {}
    options: RewardOptions = _DEFAULTS


class JudgeError(RuntimeError):
    """No verdict could be had; the message says why."""


class JudgeAway(JudgeError):
    """Nobody was there to give one, for as long as the judge is waited for."""


class AnswerJudge(Protocol):
    """What decides A in place of the rule; `judge.client.JudgeClient` is one."""

    async def judge(self, question: str, reference: str, candidate: str, context: str | None = None) -> bool:
        """Whether the candidate states the reference's facts. Raises JudgeError when no verdict can be
        had."""
        ...


class Isolation(Protocol):
    """Runs `score_for_each_verdict` where a hang can be killed, as `isolation.scorer_pool.IsolatedScorer` does.

    Never raises for a sample.
    """

    async def score_for_each_verdict(self, job: Job) -> tuple[Score, ...]: ...


def score(
    data_source: str,
    response: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    options: RewardOptions | None = None,
) -> Score:
    """Score one decoded completion in this process, deciding answers by rule.

    ground_truth and extra_info are as in the parquet row. An exception of the scorer (a row without evidence,
    a bug) comes back as status scorer_error with its reason; only an unknown `data_source` raises
    (LookupError).
    """
    resolve(data_source)
    return _score(Job(data_source, response, ground_truth, extra_info or {}, options or _DEFAULTS))


def score_for_each_verdict(job: Job) -> tuple[Score, ...]:
    """(by rule,) or, when a judge is to decide, (by rule, judged wrong, judged right). Never raises: an
    unknown data_source is a scorer_error here."""
    ruled = _score(job)
    if job.options.answer.by == "rule" or ruled.candidate is None or ruled.failed:
        return (ruled,)
    return (ruled, *(_score(job._replace(options=replace(job.options, verdict=verdict))) for verdict in (0.0, 1.0)))


async def score_async(
    data_source: str,
    response: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    options: RewardOptions | None = None,
    isolation: Isolation | None = None,
    judge: AnswerJudge | None = None,
    truncated: bool = False,
) -> Score:
    """Score one decoded completion for training.

    isolation: score in killable processes; without it in this one. judge: decides A when `options.answer.by`
    is not rule (ValueError when it is missing then). truncated: the response was cut at the length limit, so
    a broken format means truncated, not format_error. A judge that fails leaves the rule's score, with status
    judge_error, or judge_away when it is not there.
    """
    options, extra_info = options or _DEFAULTS, extra_info or {}
    if options.answer.by != "rule" and judge is None:
        raise ValueError(f"answer.by = {options.answer.by!r} needs a judge; pass judge=JudgeClient(JudgeOptions(...))")
    job = Job(data_source, response, ground_truth, extra_info, options)
    ruled, *judged = await isolation.score_for_each_verdict(job) if isolation else score_for_each_verdict(job)
    if truncated and ruled.status == "format_error":
        return replace(ruled, status="truncated", reason=f"cut at the length limit: {ruled.reason}")
    if not judged or judge is None or ruled.candidate is None:
        return ruled
    wrong, right = judged
    try:
        reference = " | ".join(gold_answers(ground_truth))
        if options.answer.skip_exact and equals_gold(ruled.candidate, ground_truth):
            return right
    except ValueError as error:  # a scorer of the user's own that judges an answer of another shape
        return Score(0.0, {}, "scorer_error", f"no reference for the judge: {error}")
    chunks = extra_info.get("ref_chunks_text")
    context = "\n".join(str(chunk) for chunk in chunks) if chunks is not None else None
    try:
        verdict = await judge.judge(str(extra_info.get("question", "")), reference, ruled.candidate, context)
    except JudgeError as error:
        return replace(ruled, status="judge_away" if isinstance(error, JudgeAway) else "judge_error", reason=str(error))
    return right if verdict else wrong


def _score(job: Job) -> Score:
    try:
        result = resolve(job.data_source)(job.response, job.ground_truth, job.extra_info, job.options)
        if not isinstance(result, Score):
            raise TypeError(f"the scorer of {job.data_source!r} returned {type(result).__name__}, expected Score")
    except Exception as error:  # noqa: BLE001  the boundary: whatever a scorer raises becomes a counted status
        return Score(0.0, {}, "scorer_error", f"{type(error).__name__}: {error}")
    return result
