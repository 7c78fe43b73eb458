"""Ask a model's replicas: tokens in flight are bounded, and prompts that share a document go to one replica in turn.

A group is the requests of one document. It is sent to the replica with the fewest tokens in flight, one request after
another, so that its prefix is computed once. Groups with the longest prompts are sent first, since a long request that
is sent last would be waited for alone.

How each reply ends, which docs/evaluation.md lists for users:

    finish_reason stop                            scored, also with an empty text
    finish_reason length                          cut: scored by the rules and counted apart
    any other finish_reason                       failed
    HTTP 400 and other refusals                   failed at once
    HTTP 429, 5xx, timeouts, broken connections   sent again, to this replica and then the others; then failed
    replies that cannot be read                   as above
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass as option_group
from verl_longrl.endpoints import EndpointError, Endpoints, RequestError
from verl_longrl.options import Options
from verl_longrl.rewards.options import ServerOptions

from recipe.longrl.evaluation.errors import EvaluationError
from recipe.longrl.evaluation.log import FAILED
from recipe.longrl.evaluation.records import Reply

SCORED, CUT = "scored", "cut"
ENDS = {"stop": SCORED, "length": CUT}
"""finish_reason -> state of the answer."""
LONGEST_REPLY = 1 << 26
"""Bytes of a reply: 64 MiB, far above an answer of a million tokens."""
GIVE_UP_AFTER = 20
"""Failures in a row, without an answer between them, after which a run ends: something is wrong with all requests."""


class ModelGone(EvaluationError):
    """The model answers nothing any more; the message has the last error."""


@option_group(frozen=True)
class ClientOptions(Options):
    """How the servers are used."""

    concurrency: PositiveInt = 64
    """Requests in flight, over all replicas."""
    tokens_in_flight: NonNegativeInt = 0
    """Prompt and answer tokens in flight at each replica; 0: four times the window."""
    timeout_s: PositiveFloat = 3600.0
    """Timeout of one attempt, in seconds."""
    attempts: PositiveInt = 5
    """Attempts of one request at one replica."""


@dataclass(frozen=True)
class Request:
    """One question to ask once. `body()` builds it when its turn comes, so that few are in memory."""

    key: str
    group: str
    tokens: int
    body: Callable[[], Mapping[str, Any] | bytes]
    record: Mapping[str, Any] = field(default_factory=dict)
    """Fields that are logged with the outcome."""


class TokenBudget:
    """Bounds the tokens in flight at one replica. Requests enter in the order in which they ask."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.in_flight = capacity, 0
        self._turn, self._freed = asyncio.Lock(), asyncio.Event()

    @asynccontextmanager
    async def hold(self, tokens: int) -> AsyncIterator[None]:
        """A request that is larger than the whole budget enters alone."""
        async with self._turn:
            while self.in_flight and self.in_flight + tokens > self.capacity:
                self._freed.clear()
                await self._freed.wait()
            self.in_flight += tokens
        try:
            yield
        finally:
            self.in_flight -= tokens
            self._freed.set()


class Replica:
    """One server of the model."""

    def __init__(self, url: str, options: ServerOptions, tokens_in_flight: int) -> None:
        self.url, self.servers = url, Endpoints(options)
        self.budget = TokenBudget(tokens_in_flight)
        self.promised, self.answers = 0, True
        """Tokens of the groups that are assigned to it, and whether it answered the last request."""


class Client:
    """The replicas of one model, for use within one event loop. Raises EndpointError as `Endpoints` does."""

    def __init__(self, urls: Sequence[str], model: str, api_key_env: str, window: int, options: ClientOptions) -> None:
        capacity = options.tokens_in_flight or 4 * window
        self.options = options
        self.replicas = [
            Replica(
                url,
                ServerOptions(
                    endpoints=(url,),
                    model=model,
                    api_key_env=api_key_env,
                    concurrency=options.concurrency,
                    timeout_s=options.timeout_s,
                    attempts=options.attempts,
                ),
                capacity,
            )
            for url in urls
        ]
        self._failures = 0

    async def close(self) -> None:
        for replica in self.replicas:
            await replica.servers.close()

    async def ask_all(self, requests: Iterable[Request], done: Callable[[dict[str, Any]], None]) -> None:
        """Ask every request; `done` is called with the outcome of each, in the order in which they end.

        Raises ModelGone after GIVE_UP_AFTER failures in a row.
        """
        groups = iter(group_requests(requests))
        workers = [asyncio.create_task(self._work(groups, done)) for _ in range(self.options.concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, groups: Iterable[list[Request]], done: Callable[[dict[str, Any]], None]) -> None:
        for group in groups:
            home = min(self.replicas, key=lambda replica: (not replica.answers, replica.promised))
            promised = sum(request.tokens for request in group)
            home.promised += promised
            try:
                for request in group:
                    outcome = await self._ask(request, home)
                    done({"key": request.key, **request.record, **outcome})
                    self._count_failure(outcome)
            finally:
                home.promised -= promised

    async def _ask(self, request: Request, home: Replica) -> dict[str, Any]:
        """Ask the home replica, then the others while the failure may be the server's. Returns the outcome."""
        error = ""
        for replica in (home, *(other for other in self.replicas if other is not home)):
            async with replica.budget.hold(request.tokens):
                started = time.time()
                try:
                    reply = await replica.servers.post(
                        "/chat/completions", request.body(), read_reply, longest=LONGEST_REPLY
                    )
                except (RequestError, EndpointError) as problem:
                    error = str(problem)
                    replica.answers = isinstance(problem, RequestError) and not problem.transient
                    if replica.answers:
                        break
                else:
                    replica.answers = True
                    return {**describe_reply(reply), "server": replica.url, **_time_since(started)}
        return {"state": FAILED, "error": error, **_time_since(started)}

    def _count_failure(self, outcome: Mapping[str, Any]) -> None:
        self._failures = self._failures + 1 if outcome["state"] == FAILED else 0
        if self._failures >= GIVE_UP_AFTER:
            raise ModelGone(
                f"{self._failures} requests in a row failed, the last one with: {outcome['error']}. Fix: correct the "
                "server or the options, then rerun the same command: it asks only what has no answer"
            )


def group_requests(requests: Iterable[Request]) -> list[list[Request]]:
    """Groups of requests, each with its longest one first, and the group with the longest request first."""
    groups: dict[str, list[Request]] = {}
    for request in requests:
        groups.setdefault(request.group, []).append(request)
    for group in groups.values():
        group.sort(key=lambda request: -request.tokens)
    return sorted(groups.values(), key=lambda group: -group[0].tokens)


def read_reply(reply: Any) -> Reply:
    """Read a chat completion. Raises ValueError, TypeError or LookupError for anything else."""
    choice, usage = reply["choices"][0], reply.get("usage") or {}
    message = choice["message"]
    text = message.get("content") or ""
    # vLLM 0.28 calls the field reasoning; earlier versions and other servers call it reasoning_content.
    reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
    if not (isinstance(text, str) and isinstance(reasoning, str) and isinstance(choice["finish_reason"], str)):
        raise ValueError("content, reasoning and finish_reason must be strings")
    counts = (usage.get(name) for name in ("prompt_tokens", "completion_tokens"))
    prompt_tokens, completion_tokens = (count if type(count) is int and count >= 0 else None for count in counts)
    return Reply(text, choice["finish_reason"], reasoning, prompt_tokens, completion_tokens)


def describe_reply(reply: Reply) -> dict[str, Any]:
    """The outcome of a reply, as it is logged."""
    outcome = {
        "state": ENDS.get(reply.finish_reason, FAILED),
        "text": reply.text,
        "reasoning": reply.reasoning,
        "finish_reason": reply.finish_reason,
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
    }
    if outcome["state"] == FAILED:
        outcome["error"] = f"finish_reason = {reply.finish_reason}: expected stop or length"
    return outcome


def _time_since(started: float) -> dict[str, float]:
    return {"started": round(started, 3), "seconds": round(time.time() - started, 3)}
