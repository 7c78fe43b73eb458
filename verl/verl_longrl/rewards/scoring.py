"""Score one sample: in this process by rule, or with isolation and a judge.

A scorer is a pure function and needs no code for judges. Where answers are judged, the scorer runs three times in one
call: by rule, as if the judge had said no, and as if it had said yes. The judge then selects one of the last two; when
it fails, the score by rule is used and the status says so.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from verl_longrl.rewards.matching.answer_match import equals_gold, gold_answers
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.registry import resolve
from verl_longrl.rewards.score import Judgement, Score, Status

_DEFAULTS = RewardOptions()


class Job(NamedTuple):
    """One decoded completion and what it is scored against; ground_truth and extra_info as in the parquet row."""

    data_source: str
    response: str
    ground_truth: Any
    extra_info: Mapping[str, Any] = {}
    options: RewardOptions = _DEFAULTS


class Verdict(NamedTuple):
    """A judge's decision about an answer. attempts: requests that were sent for it, 0 if the verdict was known."""

    right: bool
    attempts: int = 1


class JudgeError(RuntimeError):
    """The judge gave no verdict; the message says why. attempts: requests that were sent for it."""

    attempts = 0


class JudgeAway(JudgeError):
    """The judge could not be reached for as long as it is waited for."""


class AnswerJudge(Protocol):
    """Decides A instead of the rule, as `judge.client.JudgeClient` does."""

    async def judge(self, question: str, reference: str, candidate: str, context: str | None = None) -> Verdict:
        """Whether the candidate states the same facts as the reference. Raises JudgeError without a verdict."""
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

    ground_truth and extra_info are as in the parquet row. An exception in the scorer (a row without evidence, a bug)
    gives status scorer_error with its reason; only a `data_source` that is not a known name raises (LookupError). Any
    thread and any event loop may call it: no response makes it hang (`isolation/cpu_deadline.py`).
    """
    resolve(data_source)
    return _score(Job(data_source, response, ground_truth, extra_info or {}, options or _DEFAULTS))


def score_for_each_verdict(job: Job) -> tuple[Score, ...]:
    """Score by rule and, where a judge decides, for each verdict that it may give.

    Returns (by rule,) or (by rule, judged wrong, judged right). All are computed at once so that an isolated scorer is
    called once per response. Never raises: here an unknown data_source gives scorer_error.
    """
    by_rule = _score(job)
    if job.options.answer.by == "rule" or by_rule.candidate is None or by_rule.failed:
        return (by_rule,)
    return (by_rule, *(_score(job._replace(options=replace(job.options, verdict=verdict))) for verdict in (0.0, 1.0)))


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

    isolation: scores in processes that can be killed; without it, scoring runs in this process. judge: decides A when
    `options.answer.by` is not rule; ValueError when it is missing then. truncated: the response was cut at the length
    limit, so a broken format means truncated, not format_error. When the judge fails, the score is the rule's, with
    status judge_error, or judge_away if the judge could not be reached.
    """
    options, extra_info = options or _DEFAULTS, extra_info or {}
    if options.answer.by != "rule" and judge is None:
        raise ValueError(
            f"answer.by = {options.answer.by!r}: needs a judge. Fix: pass judge=JudgeClient(JudgeOptions(...))"
        )
    job = Job(data_source, response, ground_truth, extra_info, options)
    by_rule, *judged = await isolation.score_for_each_verdict(job) if isolation else score_for_each_verdict(job)
    if truncated and by_rule.status == "format_error":
        return replace(by_rule, status="truncated", reason=f"cut at the length limit: {by_rule.reason}")
    if not judged or judge is None or by_rule.candidate is None:
        return by_rule
    wrong, right = judged
    try:
        reference = " | ".join(gold_answers(ground_truth))
        if options.answer.skip_exact and equals_gold(by_rule.candidate, ground_truth):
            return right
    except ValueError as error:
        # A user's scorer may have a judged answer whose ground truth is not a text or a list of texts.
        return Score(0.0, {}, "scorer_error", f"no reference for the judge: {error}")
    chunks = extra_info.get("ref_chunks_text")
    context = "\n".join(str(chunk) for chunk in chunks) if chunks is not None else None
    started = time.monotonic()
    try:
        verdict = await judge.judge(str(extra_info.get("question", "")), reference, by_rule.candidate, context)
    except JudgeError as error:
        status: Status = "judge_away" if isinstance(error, JudgeAway) else "judge_error"
        judgement = Judgement(None, time.monotonic() - started, error.attempts)
        return replace(by_rule, status=status, reason=str(error), judgement=judgement)
    judgement = Judgement(verdict.right, time.monotonic() - started, verdict.attempts)
    return replace(right if verdict.right else wrong, judgement=judgement)


def _score(job: Job) -> Score:
    try:
        result = resolve(job.data_source)(job.response, job.ground_truth, job.extra_info, job.options)
        if not isinstance(result, Score):
            raise TypeError(f"the scorer of {job.data_source!r} returned {type(result).__name__}, expected Score")
    except Exception as error:  # noqa: BLE001  the boundary: any exception of a scorer becomes a counted status
        return Score(0.0, {}, "scorer_error", f"{type(error).__name__}: {error}")
    return result
