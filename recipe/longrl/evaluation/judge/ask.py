"""Ask judges what the rules leave open. Replies are kept; a question that has one is not asked again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from verl_longrl.data.jsonl import dumps
from verl_longrl.trainer.checkpoints import write_atomic

from recipe.longrl.evaluation.catalog import find_benchmark
from recipe.longrl.evaluation.client import Client, ClientOptions, Request
from recipe.longrl.evaluation.contamination import CLOSED_BOOK
from recipe.longrl.evaluation.errors import EvaluationError
from recipe.longrl.evaluation.judge.options import EvaluationJudgeOptions
from recipe.longrl.evaluation.judge.protocols import PROTOCOLS, Question, prompt_digest
from recipe.longrl.evaluation.judge.verdicts import JUDGES, JudgeRecord, open_question
from recipe.longrl.evaluation.log import RequestLog, digest
from recipe.longrl.evaluation.models import find_served_model, load_tokenizer
from recipe.longrl.evaluation.plan import ChatCounter, Message, SetPlan
from recipe.longrl.evaluation.profiles import Profile, SetOptions
from recipe.longrl.evaluation.rule_runner import apply_to_answers, scores_of
from recipe.longrl.evaluation.run import ask_and_log

LEFT_OUT = "\n(the middle is left out)\n"
TEMPLATE_TOKENS = 64
"""Tokens that a chat template may add, where the judge's tokenizer is not named."""


class JudgeSetupError(EvaluationError):
    """A judge cannot be used; the message has the place, the value and the fix."""


@dataclass(frozen=True)
class Judge:
    """A judge that answers."""

    options: EvaluationJudgeOptions
    window: int
    count: Callable[[list[Message]], int]
    """Tokens of a prompt."""
    record: JudgeRecord


def choose_judges(profile: Profile, name: str, options: SetOptions) -> tuple[EvaluationJudgeOptions, ...]:
    """The judges of a set: its own, or else the profile's if the benchmark leaves anything to a judge."""
    if find_benchmark(options.benchmark).judged is not None:
        return options.judge or profile.judge
    if options.judge:
        raise JudgeSetupError(f"sets.{name}.judge: {options.benchmark} is scored by rule alone. Fix: leave it out")
    return ()


def connect_judges(profile: Profile, sets: Mapping[str, SetOptions]) -> dict[str, list[Judge]]:
    """The judges of each set. Raises JudgeSetupError, ModelError."""
    connected: dict[str, Judge] = {}
    judges: dict[str, list[Judge]] = {}
    for name, options in sets.items():
        judges[name] = []
        for judge in choose_judges(profile, name, options):
            key = digest(asdict(judge))
            if key not in connected:
                connected[key] = connect_judge(judge)
            judges[name].append(connected[key])
        ids = [judge.record.id for judge in judges[name]]
        if len(set(ids)) < len(ids):
            raise JudgeSetupError(f"judge: {name} has the same judge twice. Fix: judges that differ, or one alone")
    return judges


def connect_judge(options: EvaluationJudgeOptions) -> Judge:
    """The judge as its servers describe it. Raises JudgeSetupError, ModelError."""
    if not options.servers:
        raise JudgeSetupError("judge.servers = []: no server. Fix: judge.servers=http://host:8000/v1")
    served = find_served_model(
        options.servers, options.model, options.revision, options.window, options.api_key_env, "judge."
    )
    record = {
        **served.identity,
        "window": served.window,
        "prompt": options.prompt,
        "prompt_sha256": prompt_digest(options.prompt),
        "temperature": 0.0,
        "max_tokens": options.max_tokens,
        "max_candidate_chars": options.max_candidate_chars,
        "extra": options.extra,
    }
    count = ChatCounter(load_tokenizer(options.tokenizer)).count if options.tokenizer else _count_bytes
    return Judge(options, served.window, count, JudgeRecord(orjson.loads(orjson.dumps(record))))


async def judge_sets(
    plans: Mapping[str, SetPlan], judges: Mapping[str, Sequence[Judge]], options: ClientOptions
) -> None:
    """Ask the judges of every set what is open there. Raises ModelGone when a judge answers nothing any more."""
    for name, plan in plans.items():
        path, of_set = plan.folder / JUDGES, judges[name.removesuffix(CLOSED_BOOK)]
        if not of_set:
            path.unlink(missing_ok=True)
            continue
        write_atomic(path, dumps([judge.record.values for judge in of_set], indent=1) + "\n")
        for judge in of_set:
            title = f"{name}, {judge.record.figure}"
            await ask_judge(title, judge, find_questions(plan), judge.record.log(plan.folder), options)


async def ask_judge(
    title: str, judge: Judge, questions: Iterable[tuple[Question, dict[str, Any]]], log: Path, options: ClientOptions
) -> None:
    """Ask what has no reply yet. questions: each with the fields that are logged with its reply."""
    model = judge.record.values["model"]
    client = Client(judge.options.servers, model, judge.options.api_key_env, judge.window, options)
    try:
        async with RequestLog(log) as replies:
            await ask_and_log(title, list(make_requests(judge, questions, replies.answers)), replies, client)
    finally:
        await client.close()


def find_questions(plan: SetPlan) -> Iterator[tuple[Question, dict[str, Any]]]:
    """The questions that the deciding rule leaves open, each with its row and sample."""
    judging = find_benchmark(plan.record["benchmark"]).judged
    assert judging is not None
    for planned, applied in apply_to_answers(plan):
        if planned.answer is not None:
            outcomes, _ = scores_of(applied)
            question = open_question(planned.row, planned.answer["text"], outcomes[judging.rule], judging)
            if question is not None:
                yield question, {"row": planned.row.id, "sample": planned.sample}


def make_requests(
    judge: Judge, questions: Iterable[tuple[Question, dict[str, Any]]], replied: Mapping[str, Any]
) -> Iterator[Request]:
    """The requests for the questions that have no reply, once for each different one. Raises JudgeSetupError."""
    seen = {*replied}
    for question, where in questions:
        key = judge.record.key(question)
        if key in seen:
            continue
        seen.add(key)
        messages, mark, cut = fit_question(judge, question, where["row"])
        body = {
            **judge.options.extra,
            "model": judge.record.values["model"],
            "messages": messages,
            "max_tokens": judge.options.max_tokens,
            "temperature": 0.0,
        }
        tokens = judge.count(messages) + judge.options.max_tokens
        yield Request(key, key, tokens, partial(orjson.dumps, body), {**where, "mark": mark, "cut": cut})


def fit_question(judge: Judge, question: Question, row: str) -> tuple[list[Message], str, list[str]]:
    """The messages, the mark of the verdict, and the names of the texts that were cut to fit the judge.

    Raises JudgeSetupError where the question does not fit the judge's window even with hardly any candidate.
    """
    protocol = PROTOCOLS[judge.options.prompt]
    longest = protocol.longest_row_text
    cut = [name for name in ("question", "reference") if longest and len(getattr(question, name)) > longest]
    limit = judge.options.max_candidate_chars
    while True:
        candidate = cut_middle(question.candidate, limit)
        # The same question has the same fence in every run.
        messages, mark = protocol.build(question._replace(candidate=candidate), judge.record.id.encode())
        tokens = judge.count(messages) + judge.options.max_tokens
        if tokens <= judge.window:
            return messages, mark, [*cut, "candidate"] if candidate != question.candidate else cut
        if len(candidate) <= 2 * len(LEFT_OUT):
            raise JudgeSetupError(
                f"judge: row {row}: question and reference need {tokens} tokens with a reply of "
                f"{judge.options.max_tokens}, and the window is {judge.window}. Fix: a judge with a longer window, a "
                "smaller judge.max_tokens, or judge.tokenizer, which counts exactly"
            )
        # A token has at least one character, so this is never cut further than needed in one step.
        limit = max(2 * len(LEFT_OUT), len(candidate) - (tokens - judge.window))


def cut_middle(text: str, limit: int) -> str:
    """The text, or its beginning and end with a mark between them, of at most `limit` characters."""
    if len(text) <= limit:
        return text
    kept = max(2, limit - len(LEFT_OUT))
    return text[: kept // 2] + LEFT_OUT + text[-(kept - kept // 2) :]


def _count_bytes(messages: list[Message]) -> int:
    """At least the tokens of a prompt: each has a byte or more."""
    return TEMPLATE_TOKENS + sum(len(message["content"].encode("utf-8", "replace")) for message in messages)
