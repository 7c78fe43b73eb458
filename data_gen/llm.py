"""One model behind one or several OpenAI-compatible servers, as the data pipelines use it.

Transport (load balancing, health, retries, Retry-After) is `verl_longrl.endpoints`. On top: every reply is
cached on disk under its request, so a stopped run pays for nothing twice; tokens and cost are counted; JSON is asked
for by structured decoding where the server has it; and failures are told apart: a request that this server will never
answer (`RequestFailed`: its item is dropped and counted) from servers that are gone or misconfigured (`ServersGone`:
the run ends, and what was done so far is kept).
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
from verl_longrl.options import INTERNAL, number
from verl_longrl.rewards.options import ServerOptions

from data_gen.reply_cache import PartCaches, ReplyCache

Structured = Literal["auto", "on", "off"]
Messages = list[dict[str, str]]

HOPELESS = 20
"""Requests refused before the first answer that make a run give up: it is the configuration, not the request."""


@option_group(frozen=True)
class LLMOptions(ServerOptions):
    """A model on one or more OpenAI-compatible servers, for data: patient, since a run takes hours."""

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
    """The servers answer, but not this request."""


class ServersGone(RuntimeError):
    """No server answers, or all refuse everything; the message names them and the fix."""


@dataclass(frozen=True)
class Reply:
    """What came back: the text, why it ended ("stop", "length") and its size in tokens (0 where not reported)."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


def check_sampling(block: str, options: Any) -> None:
    """Raises ValueError for a block's temperature, top_p (where it has one) or max_tokens that is out of range."""
    number(f"{block}.max_tokens", options.max_tokens, 1, whole=True)
    number(f"{block}.temperature", options.temperature, 0)
    number(f"{block}.top_p", getattr(options, "top_p", 1.0), 0, 1, open_low=True)


class LLM:
    """A model, for use within one event loop.

    `open` before anything else, `close` at the end; `totals` counts what was spent. `structured`: whether JSON is asked
    for by structured decoding, None as long as nobody knows (`can_structure` finds out).

    Args:
        options: the servers.
        cache: where replies are kept; None for nowhere.
        purpose: what the replies are for; `totals` goes on from what the cache has of this purpose.
    """

    def __init__(self, options: LLMOptions, cache: ReplyCache | PartCaches | None = None, purpose: str = ""):
        self.options, self.purpose = options, purpose
        self._servers = Endpoints(options)
        self._cache = cache
        self._counts: Counter[str] = Counter(cache.spent(purpose) if cache else {})
        self._asking: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        self._refused = 0
        self._last_answer = float("-inf")
        self.structured = {"on": True, "off": False}.get(options.structured)
        self._probing = asyncio.Lock()
        # Requests, which may be a document long, exist for those in flight, and for as many that wait for a slot.
        self._room = asyncio.Semaphore(2 * options.concurrency)

    async def open(self) -> None:
        """Raises ServersGone when no server is reachable, or one refuses the key or serves another model."""
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
        """One completion. The same arguments give the same reply, from the cache if it was given before.

        schema: the JSON schema that the reply shall follow; enforced only where the server can.

        Raises:
            RequestFailed: refused (too long a prompt, say), or never answered while other requests were.
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
            asking = self._asking.get(key)
            if asking is None:
                asking = self._asking[key] = asyncio.Lock()
            async with asking:  # equal requests at the same time: the second finds the first one's reply in the cache
                reply = self._cache.get(key) if self._cache else None
                if reply is not None:
                    self._counts["cached"] += 1
                    return Reply(*reply)
                reply = await self._post("/chat/completions", request, _read_chat)
                await asyncio.sleep(0)  # the next request goes out before this reply is read
                self._counts["prompt_tokens"] += reply[2]
                self._counts["completion_tokens"] += reply[3]
                if self._cache:
                    self._cache.put(key, reply, self.purpose)
                return Reply(*reply)

    async def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings of `texts`, float32 of shape (texts, dimensions); not cached. Raises as `chat` does."""
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
        """What the failure of one request means for the run; it failed at these times before."""
        servers = ", ".join(self.options.endpoints)
        if error.transient:
            said = f"no answer from {servers} in {self.options.attempts} attempts: {error}"
            if failed_at and self._last_answer > failed_at[0]:
                self._counts["failed"] += 1
                return RequestFailed(said)
            return ServersGone(
                f"{said}. Nothing else was answered meanwhile. What is done is kept: start the server again (or set "
                f"{self.options.block}.endpoints) and run the same command"
            )
        if error.status in (401, 403, 404):
            return ServersGone(
                f"{error}; correct {self.options.block}: endpoints, model or the key in ${self.options.api_key_env}"
            )
        self._refused += 1
        self._counts["failed"] += 1
        if self._refused >= HOPELESS and self._last_answer == float("-inf"):
            return ServersGone(f"{servers} refused the first {self._refused} requests, the last one with: {error}")
        return RequestFailed(f"refused: {error}")

    async def can_structure(self) -> bool:
        """Whether the server decodes JSON by a schema; asked once, where the options leave it open."""
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
                    if error.status not in (400, 415, 422, 500, 501):
                        raise self._failure(error, []) from error
                    self.structured = False  # also after a 500: servers break over grammars they cannot build
        return self.structured

    def totals(self) -> dict[str, float]:
        """requests answered, prompt_tokens, completion_tokens, cost (US dollars), by earlier processes too; cached,
        failed, retries, by this one."""
        names = ("requests", "cached", "failed", "prompt_tokens", "completion_tokens")
        totals = {name: float(self._counts[name]) for name in names}
        prices = self.options.price_in, self.options.price_out
        cost = (totals["prompt_tokens"] * prices[0] + totals["completion_tokens"] * prices[1]) / 1e6
        return totals | {"retries": self._servers.metrics()["retries"], "cost": cost}

    async def close(self) -> None:
        """Release the connections."""
        await self._servers.close()


def _encode(body: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)  # 40 times as fast as json, which for long prompts is a tenth of a request's work
    except TypeError:  # lone surrogates: a model may have written \\ud800
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
