"""A client of one model behind one or several OpenAI-compatible servers, for the data pipelines.

Transport (load balancing, health, retries, Retry-After) is in `verl_longrl.endpoints`. This client adds:

- a cache on disk with the reply to every request, so that a resumed run pays for no reply twice;
- counts of tokens and cost;
- JSON by structured decoding, if the server supports it;
- two kinds of failure: a request that this server will never answer (`RequestFailed`: its item is dropped and counted),
  and servers that are down or misconfigured (`ServersGone`: the run ends, and finished work is kept).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal
from weakref import WeakValueDictionary

import numpy as np
import orjson
from annotated_types import Ge
from pydantic import NonNegativeFloat, PositiveFloat
from pydantic.dataclasses import dataclass as option_group
from verl_longrl.endpoints import LONGEST_REPLY, EndpointError, Endpoints, RequestError
from verl_longrl.options import INTERNAL
from verl_longrl.rewards.options import ServerOptions

from data_gen.reply_cache import PartCaches, ReplyCache

Structured = Literal["auto", "on", "off"]
Messages = list[dict[str, str]]

MAX_REFUSED = 20
"""After this many refused requests and not a single answer a run gives up: the configuration must be wrong."""


@option_group(frozen=True)
class LLMOptions(ServerOptions):
    """A model on one or more OpenAI-compatible servers. Its timeouts are long, because a data run takes hours."""

    name: Annotated[str, INTERNAL] = ""
    """The key of this server under `servers`."""
    timeout_s: PositiveFloat = 600.0
    """Timeout of one attempt, in seconds."""
    attempts: Annotated[int, Ge(2)] = 8
    """Attempts of one request, over all endpoints. With one, a single failure would end a run of hours."""
    backoff_s: NonNegativeFloat = 1.0
    """Longest wait before the second attempt, in seconds. It doubles with each attempt."""
    max_backoff_s: NonNegativeFloat = 60.0
    """Longest wait between two attempts, in seconds."""
    extra_body: dict[str, Any] = field(default_factory=dict)
    """Fields added to every chat request, such as {chat_template_kwargs: {enable_thinking: false}}."""
    structured: Structured = "auto"
    """JSON by structured decoding. auto: asks the server once whether it can."""
    price_in: NonNegativeFloat = 0.0
    """US dollars per million prompt tokens, for the running total."""
    price_out: NonNegativeFloat = 0.0
    """US dollars per million completion tokens, for the running total."""

    @property
    def block(self) -> str:
        return f"servers.{self.name or 'NAME'}"


class RequestFailed(RuntimeError):
    """The servers answer other requests, but not this one."""


class ServersGone(RuntimeError):
    """No server answers, or all of them refuse every request; the message names them and the fix."""


@dataclass(frozen=True)
class Reply:
    """A completion: its text, why it ended ("stop", "length") and its tokens (0 if the server does not report them)."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


class LLM:
    """A model, for use within one event loop.

    Call `open` first and `close` at the end; `totals` returns what was spent. `structured`: whether JSON is requested
    by structured decoding; None until `can_structure` has asked the server.

    Args:
        options: the servers.
        cache: the cache of replies; None for no cache.
        purpose: label of the replies in the cache; `totals` includes earlier replies with the same label.
    """

    def __init__(self, options: LLMOptions, cache: ReplyCache | PartCaches | None = None, purpose: str = ""):
        self.options, self.purpose = options, purpose
        self._servers = Endpoints(options)
        self._cache = cache
        self._counts: Counter[str] = Counter(cache.spent(purpose) if cache else {})
        self._locks: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        self._refused = 0
        self._last_answer = float("-inf")
        self.structured = {"on": True, "off": False}.get(options.structured)
        self._probing = asyncio.Lock()
        # A request can be as long as a document. To bound memory, only as many are encoded as are in flight, and as
        # many again that wait for a slot.
        self._room = asyncio.Semaphore(2 * options.concurrency)

    async def open(self) -> None:
        """Raise ServersGone if no server is reachable, or one refuses the key or serves another model."""
        try:
            self.model = await self._servers.check(some=True)
        except EndpointError as error:
            raise ServersGone(str(error)) from error

    async def chat(
        self,
        messages: Messages,
        *,
        max_tokens: int,
        seed: int,
        temperature: float,
        top_p: float = 1.0,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        """One completion. A repeated call with the same arguments returns the cached reply.

        schema: the JSON schema that the reply should follow; enforced only if the server supports it.

        Raises:
            RequestFailed: the request was refused (for example, the prompt is too long), or never answered while other
                requests were.
            ServersGone: no server answers, the key or the model is refused, or every request is.
        """
        body: dict[str, Any] = {
            "messages": messages,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "seed": seed,
            **self.options.extra_body,
        }
        if schema is not None and await self.can_structure():
            body["response_format"] = _response_format(schema)
        async with self._room:
            request = _encode({"model": self.model, **body})
            key = hashlib.sha256(request).digest()[:16]
            lock = self._locks.get(key)
            if lock is None:
                lock = self._locks[key] = asyncio.Lock()
            # Of two equal requests at the same time, the second one waits and finds the reply in the cache.
            async with lock:
                reply = self._cache.get(key) if self._cache else None
                if reply is not None:
                    self._counts["cached"] += 1
                    return Reply(*reply)
                reply = await self._post("/chat/completions", request, _read_chat)
                # Let a waiting request be sent before this reply is processed.
                await asyncio.sleep(0)
                self._counts["prompt_tokens"] += reply[2]
                self._counts["completion_tokens"] += reply[3]
                if self._cache:
                    self._cache.put(key, reply, self.purpose)
                return Reply(*reply)

    async def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings of `texts`, float32 of shape (texts, dimensions); not cached. Raises the same errors as `chat`."""
        vectors = await self._post(
            "/embeddings", {"input": list(texts)}, lambda r: _read_embeddings(r, len(texts)), LONGEST_REPLY * len(texts)
        )
        return np.asarray(vectors, dtype=np.float32)

    async def _post(
        self, path: str, body: dict[str, Any] | bytes, read: Callable[[Any], list[Any]], longest: int = LONGEST_REPLY
    ) -> list[Any]:
        failed_at: list[float] = []
        try:
            reply = await self._servers.post(path, body, read, lambda: failed_at.append(time.monotonic()), longest)
        except RequestError as error:
            raise self._failure(error, failed_at) from error
        self._last_answer = time.monotonic()
        self._counts["requests"] += 1
        return reply

    def _failure(self, error: RequestError, failed_at: list[float]) -> Exception:
        """The exception for a failed request: RequestFailed or ServersGone. failed_at: times of its failed attempts."""
        servers = ", ".join(self.options.endpoints)
        if error.transient:
            message = f"no answer from {servers} in {self.options.attempts} attempts: {error}"
            # If another request was answered since this one first failed, the servers work and this request is bad.
            if failed_at and self._last_answer > failed_at[0]:
                self._counts["failed"] += 1
                return RequestFailed(message)
            return ServersGone(
                f"{message}. No other request was answered meanwhile. Fix: start the server again (or set "
                f"{self.options.block}.endpoints) and run the same command: it resumes"
            )
        if error.status in (401, 403, 404):
            return ServersGone(
                f"{error}. Fix: correct {self.options.block}: endpoints, model or the key in "
                f"${self.options.api_key_env}"
            )
        self._refused += 1
        self._counts["failed"] += 1
        if self._refused >= MAX_REFUSED and self._last_answer == float("-inf"):
            return ServersGone(f"{servers} refused the first {self._refused} requests, the last one with: {error}")
        return RequestFailed(f"refused: {error}")

    async def can_structure(self) -> bool:
        """Whether the server decodes JSON by a schema. With structured=auto a test request decides it, once."""
        async with self._probing:
            if self.structured is None:
                properties = {"ok": {"type": "boolean"}}
                schema = {"type": "object", "properties": properties, "required": ["ok"], "additionalProperties": False}
                body = {
                    "messages": [{"role": "user", "content": 'Reply with {"ok": true}.'}],
                    "max_tokens": 16,
                    "response_format": _response_format(schema),
                }
                try:
                    await self._servers.post("/chat/completions", body, _read_chat)
                    self.structured = True
                except RequestError as error:
                    # Some servers answer 500 to grammars that they cannot build.
                    if error.status not in (400, 415, 422, 500, 501):
                        raise self._failure(error, []) from error
                    self.structured = False
        return self.structured

    def totals(self) -> dict[str, float]:
        """Counts of answered requests, prompt_tokens, completion_tokens and cost (US dollars), including those of
        earlier processes; and of cached, failed and retries of this process."""
        names = ("requests", "cached", "failed", "prompt_tokens", "completion_tokens")
        totals = {name: float(self._counts[name]) for name in names}
        prices = self.options.price_in, self.options.price_out
        cost = (totals["prompt_tokens"] * prices[0] + totals["completion_tokens"] * prices[1]) / 1e6
        return totals | {"retries": self._servers.metrics()["retries"], "cost": cost}

    async def close(self) -> None:
        """Release the connections."""
        await self._servers.close()


def _encode(body: dict[str, Any]) -> bytes:
    # orjson is 40 times as fast as json, which for long prompts takes a tenth of the work of a request. It refuses lone
    # surrogates, which a model may have written as \\ud800.
    try:
        return orjson.dumps(body)
    except TypeError:
        return json.dumps(body).encode()


def _response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema, "strict": True}}


def _read_chat(reply: Any) -> list[Any]:
    """A chat completion's text, finish reason and token counts, as a list that JSON can hold."""
    choice = reply["choices"][0]
    usage = reply.get("usage") or {}
    tokens = [int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")]
    return [choice["message"].get("content") or "", choice.get("finish_reason") or "", *tokens]


def _read_embeddings(reply: Any, expected: int) -> list[Any]:
    rows = sorted(reply["data"], key=lambda row: row["index"])
    if len(rows) != expected:
        raise ValueError(f"{len(rows)} embeddings for {expected} texts")
    return [[float(value) for value in row["embedding"]] for row in rows]
