"""Ask a model whether an answer means the same as the reference, and believe only the model.

Any OpenAI-compatible server will do, one or several: each request goes to the least busy healthy endpoint, an
endpoint that fails to answer is left alone for a while, and rate limits, server errors and timeouts are
retried with backoff and jitter (a Retry-After is obeyed). Identical questions are one call: verdicts are
cached, and a question that is being asked is waited for, not asked again.

The candidate answer cannot talk to the judge: see `judge_prompt.py`. When no verdict can be had (cut-off
reasoning, prose, an unreachable server) `JudgeError` is raised: it is not a "no".
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Any

import openai
import tenacity

from verl_longrl.rewards.judge_prompt import build_messages, read_verdict
from verl_longrl.rewards.options import JudgeOptions
from verl_longrl.rewards.scoring import JudgeError

__all__ = ["Judge", "JudgeError"]


@dataclass
class _Endpoint:
    url: str
    client: openai.AsyncOpenAI
    in_flight: int = 0
    benched_until: float = 0.0


def _client(url: str, key: str, timeout_s: float) -> openai.AsyncOpenAI:
    """A client that leaves retries to us and speaks HTTP through aiohttp, in half the time of httpx."""
    http = openai.DefaultAioHttpClient(timeout=timeout_s)
    return openai.AsyncOpenAI(base_url=url, api_key=key, timeout=timeout_s, max_retries=0, http_client=http)


class Judge:
    """A judge's client, for use within one event loop.

    Raises ValueError when there is no endpoint. `judge` answers one question; `check` is for the preflight;
    `metrics` counts; `close` releases the connections.
    """

    def __init__(self, options: JudgeOptions):
        if not options.endpoints:
            raise ValueError("judge.endpoints is empty; give at least one base URL, such as http://judge-host:8000/v1")
        self.options = options
        key = os.environ.get(options.api_key_env) or "none"  # own servers want no key, the client a string
        self._endpoints = [_Endpoint(url, _client(url, key, options.timeout_s)) for url in options.endpoints]
        self._model = options.model
        self._slots = asyncio.Semaphore(options.concurrency)
        self._verdicts: OrderedDict[str, bool] = OrderedDict()
        self._naming = asyncio.Lock()
        self._asking: dict[str, asyncio.Task[bool]] = {}
        self._counts: Counter[str] = Counter()
        self._latency_s = 0.0

    async def judge(self, question: str, reference: str, candidate: str, context: str | None = None) -> bool:
        """Whether `candidate` states the same facts as `reference`. Raises JudgeError when no verdict can be
        had."""
        if not candidate.strip():
            return False
        messages, mark = build_messages(question, reference, candidate, context, self.options)
        key = hashlib.sha256(repr((self.options.model, messages)).encode("utf-8", "replace")).hexdigest()
        if key in self._verdicts:
            self._verdicts.move_to_end(key)
            self._counts["cache_hits"] += 1
            return self._verdicts[key]
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._ask(key, messages, mark))
        else:
            self._counts["cache_hits"] += 1
        return await asyncio.shield(task)  # one waiter may be cancelled, the others still want the verdict

    async def _ask(self, key: str, messages: list[dict[str, str]], mark: str) -> bool:
        try:
            async with self._slots:
                verdict = await self._with_retries(messages, mark)
        except JudgeError:
            self._counts["failures"] += 1
            raise
        finally:
            del self._asking[key]
        self._verdicts[key] = verdict
        while len(self._verdicts) > self.options.cache_size:
            self._verdicts.popitem(last=False)
        return verdict

    async def _with_retries(self, messages: list[dict[str, str]], mark: str) -> bool:
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_is_transient),
            stop=tenacity.stop_after_attempt(self.options.attempts),
            wait=self._wait,
            before_sleep=lambda _: self._counts.update(retries=1),
            reraise=True,
        )
        try:
            return await retrying(self._attempt, messages, mark)
        except openai.OpenAIError as error:
            raise JudgeError(
                f"no verdict from {', '.join(self.options.endpoints)} in {self.options.attempts} attempts: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _wait(self, state: tenacity.RetryCallState) -> float:
        """Seconds until the next attempt: none while another endpoint is fit, else what the server asked for
        (at most timeout_s), else exponential backoff with full jitter."""
        error = state.outcome.exception() if state.outcome else None
        if any(endpoint.benched_until <= time.monotonic() for endpoint in self._endpoints):
            return 0.0
        asked = _retry_after(error)
        if asked is not None:
            return min(asked, self.options.timeout_s)
        backoff = tenacity.wait_random_exponential(multiplier=self.options.backoff_s, max=self.options.max_backoff_s)
        return float(backoff(state))

    async def _attempt(self, messages: list[dict[str, str]], mark: str) -> bool:
        endpoint, started = self._choose(), time.monotonic()
        endpoint.in_flight += 1
        self._counts["calls"] += 1
        try:
            text, finish_reason = await self._complete(endpoint, messages)
        except openai.OpenAIError as error:
            if _is_transient(error):
                asked = _retry_after(error)
                endpoint.benched_until = time.monotonic() + (self.options.cooldown_s if asked is None else asked)
            raise
        finally:
            endpoint.in_flight -= 1
            self._latency_s += time.monotonic() - started
        endpoint.benched_until = 0.0
        return read_verdict(text, mark, finish_reason)

    async def _complete(self, endpoint: _Endpoint, messages: list[dict[str, str]]) -> tuple[str, str | None]:
        """The reply's text and finish reason. Raises openai.OpenAIError, also for what is no chat completion.

        The plain `post` takes a third of the time of `chat.completions.create`, which walks the types of
        every field on the way in and out; with hundreds of replies at once that time is what limits the rate.
        """
        body = {
            "model": await self._served_model(endpoint),
            "messages": messages,
            "temperature": self.options.temperature,
            "max_tokens": self.options.max_tokens,
        }
        try:
            reply: Any = await endpoint.client.post("/chat/completions", cast_to=object, body=body)
            choice = reply["choices"][0]
            return choice["message"].get("content") or "", choice.get("finish_reason")
        except (
            ValueError,
            TypeError,
            LookupError,
            AttributeError,
        ) as error:  # not JSON, or JSON of another shape
            raise _BadReply(f"{endpoint.url} sent a reply that cannot be read: {error!r}") from error

    def _choose(self) -> _Endpoint:
        """The least busy endpoint that is not benched; when all are, the one whose bench ends first."""
        now = time.monotonic()
        fit = [endpoint for endpoint in self._endpoints if endpoint.benched_until <= now]
        if fit:
            return min(fit, key=lambda endpoint: endpoint.in_flight)
        return min(self._endpoints, key=lambda endpoint: endpoint.benched_until)

    async def _served_model(self, endpoint: _Endpoint) -> str:
        async with self._naming:
            if not self._model:
                served = [model.id for model in (await endpoint.client.models.list()).data]
                if len(served) != 1:
                    raise JudgeError(f"{endpoint.url} serves {served}; set judge.model to the one to ask")
                self._model = served[0]
        return self._model

    async def check(self) -> str:
        """For the preflight: every endpoint is reachable and serves the model. Returns the model's name.

        Raises JudgeError naming the endpoint, what is wrong and the fix.
        """
        for endpoint in self._endpoints:
            try:
                served = [model.id for model in (await endpoint.client.models.list()).data]
            except openai.AuthenticationError as error:
                raise JudgeError(
                    f"judge {endpoint.url} refuses the key; put a valid one in ${self.options.api_key_env}"
                ) from error
            except (openai.OpenAIError, ValueError) as error:
                raise JudgeError(
                    f"judge {endpoint.url} does not answer GET /models ({type(error).__name__}: {error}); "
                    "start the server or correct judge.endpoints (a base URL ends in /v1)"
                ) from error
            if self.options.model and self.options.model not in served:
                raise JudgeError(
                    f"judge {endpoint.url} serves {served}, not {self.options.model!r}; correct judge.model"
                )
            await self._served_model(endpoint)
        return self._model

    def metrics(self) -> dict[str, float]:
        """calls (attempts), cache_hits, retries, failures (questions without verdict), benched endpoints,
        mean latency_s."""
        now, calls = time.monotonic(), self._counts["calls"]
        return {
            **{name: float(self._counts[name]) for name in ("calls", "cache_hits", "retries", "failures")},
            "benched": float(sum(endpoint.benched_until > now for endpoint in self._endpoints)),
            "latency_s": self._latency_s / calls if calls else 0.0,
        }

    async def close(self) -> None:
        """Give up what is being asked and release the connections."""
        for task in list(self._asking.values()):
            task.cancel()
        for endpoint in self._endpoints:
            await endpoint.client.close()


class _BadReply(openai.OpenAIError):
    """A reply that is not a chat completion; another attempt may do better."""


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, openai.APIStatusError):
        return error.status_code in (408, 409, 425, 429) or error.status_code >= 500
    return isinstance(error, (openai.APIConnectionError, _BadReply))


def _retry_after(error: BaseException | None) -> float | None:
    """Seconds of a Retry-After header, None when there is none (or it is a date, which model servers do not
    send)."""
    if not isinstance(error, openai.APIStatusError):
        return None
    value: Any = error.response.headers.get("retry-after", "")
    return float(value) if re.fullmatch(r"[0-9]{1,6}(?:\.[0-9]{1,6})?", value) else None
