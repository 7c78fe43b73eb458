"""Ask a model whether an answer means the same as the reference.

Any OpenAI-compatible server will do, one or several (`endpoints.py`). Identical questions are one request: verdicts are
cached, and a question that is in flight is waited for instead of asked again.

The candidate answer cannot influence the judge's instructions or pronounce its verdict (`prompt.py`). Without a verdict
(cut-off reasoning, prose, a server that refuses) `JudgeError` is raised: it does not count as a "no". A judge that
cannot be reached is waited for (`patience.py`), then `JudgeAway` is raised.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from verl_longrl.endpoints import EndpointError, Endpoints, RequestError
from verl_longrl.patience import Patience, ServerAway
from verl_longrl.rewards.judge.prompt import build_messages, read_verdict
from verl_longrl.rewards.options import JudgeOptions
from verl_longrl.rewards.scoring import JudgeAway, JudgeError, Verdict

__all__ = ["JudgeAway", "JudgeClient", "JudgeError"]

T = TypeVar("T")


class JudgeClient:
    """Asks a judge, for use within one event loop.

    Raises ValueError without an endpoint. `judge` answers one question, `check` is for the preflight, `metrics` counts,
    and `close` releases the connections.
    """

    def __init__(self, options: JudgeOptions):
        self.options = options
        self._patience = Patience(
            "the judge", options.patience_minutes, options.concurrency, options.max_backoff_s, _print_progress
        )
        self._servers = Endpoints(options)
        self._verdicts: OrderedDict[str, bool] = OrderedDict()
        self._tasks_in_flight: dict[str, asyncio.Task[Verdict]] = {}
        self._counts: Counter[str] = Counter()

    async def judge(self, question: str, reference: str, candidate: str, context: str | None = None) -> Verdict:
        """Whether `candidate` states the same facts as `reference`. Raises JudgeError without a verdict."""
        if not candidate.strip():
            return Verdict(False, attempts=0)
        messages, mark = build_messages(question, reference, candidate, context, self.options)
        key = hashlib.sha256(repr((self.options.model, messages)).encode("utf-8", "replace")).hexdigest()
        if key in self._verdicts:
            self._verdicts.move_to_end(key)
            self._counts["cache_hits"] += 1
            return Verdict(self._verdicts[key], attempts=0)
        # Shielded, because others may be waiting for the same verdict when one of them is cancelled.
        if (task := self._tasks_in_flight.get(key)) is not None:
            self._counts["cache_hits"] += 1
            return (await asyncio.shield(task))._replace(attempts=0)
        task = self._tasks_in_flight[key] = asyncio.create_task(self._ask_and_cache(key, messages, mark))
        return await asyncio.shield(task)

    async def _ask_and_cache(self, key: str, messages: list[dict[str, str]], mark: str) -> Verdict:
        try:
            verdict = await self._ask_for_verdict(messages, mark)
        except JudgeError:
            self._counts["failures"] += 1
            raise
        finally:
            del self._tasks_in_flight[key]
        self._verdicts[key] = verdict.right
        while len(self._verdicts) > self.options.cache_size:
            self._verdicts.popitem(last=False)
        return verdict

    async def _ask_for_verdict(self, messages: list[dict[str, str]], mark: str) -> Verdict:
        body = {
            "messages": messages,
            "temperature": self.options.temperature,
            "max_tokens": self.options.max_tokens,
        }
        attempts = 0

        def count_attempt() -> None:
            nonlocal attempts
            attempts += 1

        def send() -> Awaitable[tuple[str, str | None]]:
            count_attempt()
            return self._servers.post("/chat/completions", body, _read_completion, on_retry=count_attempt)

        try:
            text, finish_reason = await self._send_patiently(send)
            return Verdict(read_verdict(text, mark, finish_reason), attempts)
        except JudgeError as error:
            error.attempts = attempts
            raise

    async def _send_patiently(self, send: Callable[[], Awaitable[T]]) -> T:
        try:
            return await self._patience.ask(send)
        except ServerAway as error:
            raise JudgeAway(str(error)) from error
        except (RequestError, EndpointError) as error:
            raise JudgeError(
                f"no verdict from {', '.join(self.options.endpoints)} in {self.options.attempts} attempts: {error}"
            ) from error

    async def check(self) -> str:
        """Check, for the preflight, that every endpoint is reachable and serves the model. Returns the model's name.

        Raises JudgeError with the endpoint, the problem and the fix; JudgeAway when the endpoint is only unreachable.
        """
        try:
            return await self._servers.check()
        except EndpointError as error:
            away = isinstance(error.__cause__, RequestError) and error.__cause__.away
            raise (JudgeAway if away else JudgeError)(str(error)) from error

    def metrics(self) -> dict[str, float]:
        """calls (attempts), cache_hits, retries, failures (questions without a verdict), benched endpoints, and the
        mean latency_s.
        """
        return self._servers.metrics() | {name: float(self._counts[name]) for name in ("cache_hits", "failures")}

    async def close(self) -> None:
        """Cancel the requests in flight and release the connections."""
        for task in list(self._tasks_in_flight.values()):
            task.cancel()
        await self._servers.close()


def _print_progress(line: str) -> None:
    """Print a line that reaches the user's terminal, also from a reward worker (see recipe.longrl.console)."""
    print(f"longrl: {line}", flush=True)


def _read_completion(reply: Any) -> tuple[str, str | None]:
    """The text and finish reason of a chat completion. Raises TypeError, LookupError or AttributeError for another."""
    choice = reply["choices"][0]
    content, finish_reason = choice["message"].get("content"), choice.get("finish_reason")
    for name, value in (("content", content), ("finish_reason", finish_reason)):
        if not isinstance(value, str | None):
            raise TypeError(f"{name} is of type {type(value).__name__}, expected text")
    # A reasoning model that was cut off has no content.
    return content or "", finish_reason
