"""Use several servers of one model as one: OpenAI's protocol, load balancing and retries, and no request silently lost.

Each request goes to the least busy healthy server. Rate limits, server errors, timeouts and unreadable replies are
retried on another server or later, with backoff and jitter. The states of a server:

                    failed without Retry-After
         healthy ------------------------------> benched: used only when no server is healthy
          ^  ^ |                                    |
          |  | |      cooldown_s passed, or         |
          |  +-|---- a newer request answered ------+
          |    |
          |    | failed with Retry-After
          |    +-------------------------------> resting: sent nothing
          |                                         |
          +--------- Retry-After passed ------------+

A benched server may be sent to rest, and a resting one may be benched as well; the longer time counts.

The judge (`rewards/judge/client.py`) and the data pipelines (`data_gen/llm.py`) send their requests through this.

HTTP is aiohttp, without OpenAI's client: that one takes 1 ms of a core for every request, which limits a process to
fewer requests than a judge with a latency of 50 ms can answer 64 at a time (docs/results,
`scripts/bench/data_pipeline.py llm`).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import sys
import time
import urllib.parse
import urllib.request
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp

from verl_longrl.printable import one_line
from verl_longrl.rewards.options import ServerOptions
from verl_longrl.secrets import declare_secrets, redact

T = TypeVar("T")
LONGEST_REPLY = 1 << 20
"""Bytes. A model's reply takes kilobytes, and 64 replies may be in flight."""


class EndpointError(RuntimeError):
    """A server is unreachable, refuses the key, or serves another model.

    The message has the fix and shows no secret.
    """

    def __init__(self, message: str):
        super().__init__(one_line(redact(message)))


class RequestError(RuntimeError):
    """A request was not answered. The message shows no secret, whatever the server says.

    Attributes:
        status: the HTTP status; None without a readable reply.
        retry_after: for how many seconds the server asked not to be sent requests.
        silent: there was no reply at all, readable or not.
    """

    def __init__(self, message: str, status: int | None = None, retry_after: float | None = None, silent: bool = False):
        super().__init__(one_line(redact(message)))
        self.status, self.retry_after, self.silent = status, retry_after, silent

    @property
    def transient(self) -> bool:
        """Whether another attempt may succeed: rate limits, server errors, broken connections, unreadable replies."""
        return self.status is None or self.status in (408, 409, 425, 429) or self.status >= 500

    @property
    def away(self) -> bool:
        """Whether the server is absent or overwhelmed at the moment, and nothing is wrong with the request or the
        reply.
        """
        return self.silent or (self.status is not None and self.transient)


@dataclass
class _Endpoint:
    url: str
    proxy: str | None
    in_flight: int = 0
    failed_at: float = 0.0
    benched_until: float = 0.0
    resting_until: float = 0.0


class Endpoints:
    """The servers of `options.endpoints`, for use within one event loop.

    Raises ValueError without a server. `post` sends a request, `check` is for the start of a run, `metrics` counts, and
    `close` releases the connections.
    """

    def __init__(self, options: ServerOptions):
        if not options.endpoints:
            raise ValueError(
                f"{options.block}.endpoints = []: no server. Fix: give at least one base URL, such as "
                "http://host:8000/v1"
            )
        self.options = options
        self._endpoints = [_Endpoint(url.rstrip("/"), _proxy(url)) for url in options.endpoints]
        self._slots = asyncio.Semaphore(options.concurrency)
        self._model = options.model
        self._naming = asyncio.Lock()
        self._counts: Counter[str] = Counter()
        self._latency_s = 0.0
        self._answered_at = 0.0
        self._http: aiohttp.ClientSession | None = None
        declare_secrets(options.api_key_env)

    async def post(
        self,
        path: str,
        body: Mapping[str, Any] | bytes,
        read: Callable[[Any], T],
        on_retry: Callable[[], None] | None = None,
        longest: int = LONGEST_REPLY,
    ) -> T:
        """Send `body` and return `read(reply)`; waits for a free slot.

        Args:
            body: a mapping, to which the model's name is added, or a whole request that is encoded as JSON already.
            read: takes the decoded reply, which may be any JSON value. If it raises, the reply counts as unreadable
                and the request is sent again.
            on_retry: called whenever an attempt failed and another will be made.
            longest: bytes of a reply, as sent and decompressed; a longer one is not read.

        Raises:
            RequestError: refused (at once), or not answered in `options.attempts` attempts (the last failure).
            EndpointError: no model is named and the server serves several.
        """
        async with self._slots:
            attempt = 1
            while True:
                try:
                    return await self._attempt(await self._choose(), path, body, read, longest)
                except RequestError as error:
                    if not error.transient or attempt >= self.options.attempts:
                        raise
                self._counts["retries"] += 1
                if on_retry:
                    on_retry()
                await asyncio.sleep(self._backoff(attempt))
                attempt += 1

    async def _choose(self) -> _Endpoint:
        """The least busy healthy endpoint, or without a healthy one the endpoint that will be ready first.

        A benched endpoint is used at once, a resting one only after its rest (plus jitter, so that the waiting requests
        are not all sent at the same time). Raises RequestError when the endpoint rests again although nothing at all
        was answered since.
        """
        began_waiting = None
        while True:
            now = time.monotonic()
            ready_at = {id(e): max(e.benched_until, e.resting_until, now) for e in self._endpoints}
            endpoint = min(self._endpoints, key=lambda e: (ready_at[id(e)], e.in_flight))
            if endpoint.resting_until <= now:
                return endpoint
            if began_waiting is not None and self._answered_at < began_waiting:
                raise RequestError(f"{endpoint.url} has refused every request since this one began to wait", 429)
            began_waiting = now
            await asyncio.sleep(endpoint.resting_until - now + random.uniform(0, self.options.backoff_s))

    def _backoff(self, attempt: int) -> float:
        """Seconds until the next attempt: exponential with full jitter while all endpoints are benched.

        There is no wait while an endpoint is healthy. There is none either when all rest, because `_choose` waits then.
        """
        now = time.monotonic()
        if any(max(e.benched_until, e.resting_until) <= now for e in self._endpoints):
            return 0.0
        if all(e.resting_until > now for e in self._endpoints):
            return 0.0
        return random.uniform(0, min(self.options.backoff_s * 2 ** (attempt - 1), self.options.max_backoff_s))

    async def _attempt(
        self,
        endpoint: _Endpoint,
        path: str,
        body: Mapping[str, Any] | bytes,
        read: Callable[[Any], T],
        longest: int,
    ) -> T:
        started = time.monotonic()
        endpoint.in_flight += 1
        self._counts["calls"] += 1
        try:
            if not isinstance(body, bytes):
                body = json.dumps({"model": await self._served_model(endpoint), **body}).encode()
            reply = await self._send(endpoint, "POST", path, body, longest)
            try:
                result = read(reply)
            # The reply may be any JSON value, so `read` may raise anything.
            except Exception as error:
                raise RequestError(f"{endpoint.url} sent an unreadable reply: {repr(error)[:300]}") from error
        except RequestError as error:
            if error.transient:
                self._bench(endpoint, error.retry_after)
            raise
        finally:
            endpoint.in_flight -= 1
            self._latency_s += time.monotonic() - started
        self._answered_at = time.monotonic()
        # An older request may be answered after a newer one has failed, so only a request that started since counts.
        if started >= endpoint.failed_at:
            endpoint.benched_until = 0.0
        return result

    def _bench(self, endpoint: _Endpoint, retry_after: float | None) -> None:
        """Note that an endpoint failed: it rests if it sent Retry-After (at most timeout_s), else it is benched."""
        now = endpoint.failed_at = time.monotonic()
        if retry_after:
            endpoint.resting_until = max(endpoint.resting_until, now + min(retry_after, self.options.timeout_s))
        else:
            endpoint.benched_until = now + self.options.cooldown_s

    async def _send(
        self, endpoint: _Endpoint, method: str, path: str, data: bytes | None = None, longest: int = LONGEST_REPLY
    ) -> Any:
        """Send one request to one server and return the decoded JSON reply. Raises RequestError, EndpointError.

        A redirect is not followed: it would send questions and documents to any host that the server names.
        """
        if self._http is None:
            self._http = aiohttp.ClientSession(
                # `_slots` limits the number of requests.
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=self.options.timeout_s),
                headers={"Content-Type": "application/json", "Accept-Encoding": "gzip"} | self._authorization(),
                # `_decompress` does it, within a bound. aiohttp would read a stream of empty blocks without end.
                auto_decompress=False,
            )
        try:
            async with self._http.request(
                method, endpoint.url + path, data=data, proxy=endpoint.proxy, allow_redirects=False
            ) as response:
                if 300 <= response.status < 400:
                    redirect = f"redirects to {response.headers.get('Location')}, which is not followed"
                    message = f"{endpoint.url}{path} {redirect}. Fix: correct {self.options.block}.endpoints"
                    raise RequestError(message, response.status)
                content = await _read_at_most(response.content, longest)
                if content is not None:
                    content = _decompress(content, response.headers.get("Content-Encoding", ""), longest)
                if content is None:
                    raise RequestError(f"{endpoint.url} sent a reply of more than {longest / 2**20:g} MiB")
                if response.status >= 400:
                    message = f"{endpoint.url} answered {response.status}: {_message(content)}"
                    raise RequestError(message, response.status, _retry_after(response.headers.get("Retry-After", "")))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            message = f"{endpoint.url} did not answer: {type(error).__name__}: {error}"
            raise RequestError(message, silent=True) from error
        except zlib.error as error:
            raise RequestError(f"{endpoint.url} sent a reply that cannot be decompressed: {error}") from error
        except ValueError as error:
            # aiohttp raises it for an address or a header that cannot be sent.
            raise EndpointError(f"{endpoint.url} is not usable: {error}. Fix: correct {self.options.block}") from error
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise RequestError(f"{endpoint.url} sent a reply that cannot be read as JSON: {content[:80]!r}") from error

    def _authorization(self) -> dict[str, str]:
        """The header with the key, if there is one. Raises EndpointError for a key that a header cannot hold."""
        key = os.environ.get(self.options.api_key_env, "").strip()
        if not re.fullmatch(r"[!-~]*", key):
            raise EndpointError(
                f"${self.options.api_key_env}: the key has a line break, a space or another character that keys do not "
                "have. Fix: correct it"
            )
        return {"Authorization": f"Bearer {key}"} if key else {}

    async def _models(self, endpoint: _Endpoint) -> list[str]:
        """Names of the models a server serves."""
        reply = await self._send(endpoint, "GET", "/models")
        match reply:
            case {"data": [*models]} if all(isinstance(m, dict) and isinstance(m.get("id"), str) for m in models):
                return [model["id"] for model in models]
        raise RequestError(f"{endpoint.url}/models did not return a list of models")

    async def _served_model(self, endpoint: _Endpoint) -> str:
        if self._model:
            return self._model
        async with self._naming:
            if not self._model:
                served = await self._models(endpoint)
                if len(served) != 1:
                    raise EndpointError(
                        f"{endpoint.url} serves {_shorten(served)}. Fix: set {self.options.block}.model to one of them"
                    )
                self._model = served[0]
        return self._model

    async def check(self, some: bool = False) -> str:
        """Check that every server is reachable and serves the model. Returns the model's name.

        some: one reachable server is enough; the others are named on stderr and benched.

        Raises EndpointError with the server, the problem and the fix.
        """
        unreachable: list[EndpointError] = []
        for endpoint in self._endpoints:
            try:
                await self._check(endpoint)
            except EndpointError as error:
                reached = isinstance(error.__cause__, RequestError) and error.__cause__.status is not None
                if not some or reached or error.__cause__ is None:
                    raise
                endpoint.benched_until = time.monotonic() + self.options.cooldown_s
                unreachable.append(error)
        if len(unreachable) == len(self._endpoints):
            raise unreachable[0]
        for problem in unreachable:
            print(f"warning: {problem}; continuing without it", file=sys.stderr)
        return self._model

    async def _check(self, endpoint: _Endpoint) -> None:
        block = self.options.block
        try:
            served = await self._models(endpoint)
        except RequestError as error:
            if error.status == 401:
                raise EndpointError(
                    f"{block} {endpoint.url} refuses the key. Fix: put a valid one in ${self.options.api_key_env}"
                ) from error
            raise EndpointError(
                f"{block} {endpoint.url} does not answer GET /models ({error}). Fix: "
                f"start the server or correct {block}.endpoints (a base URL ends in /v1)"
            ) from error
        model = self._model or await self._served_model(endpoint)
        if model not in served:
            raise EndpointError(
                f"{block} {endpoint.url} serves {_shorten(served)}, not {model!r}. Fix: correct {block}.model"
            )

    def metrics(self) -> dict[str, float]:
        """calls (attempts), retries, benched or resting endpoints, and the mean latency_s of an attempt."""
        now, calls = time.monotonic(), self._counts["calls"]
        return {
            "calls": float(calls),
            "retries": float(self._counts["retries"]),
            "benched": float(sum(max(e.benched_until, e.resting_until) > now for e in self._endpoints)),
            "latency_s": self._latency_s / calls if calls else 0.0,
        }

    async def close(self) -> None:
        """Release the connections."""
        if self._http is not None:
            await self._http.close()


async def _read_at_most(stream: aiohttp.StreamReader, longest: int) -> bytes | None:
    """All of a reply, or None if it has more bytes than `longest`; then the rest is not read."""
    content = bytearray()
    async for block in stream.iter_any():
        content += block
        if len(content) > longest:
            return None
    return bytes(content)


def _decompress(content: bytes, encoding: str, longest: int) -> bytes | None:
    """A reply without its Content-Encoding, or None if it has more bytes than `longest`. Raises zlib.error."""
    if encoding.lower() in ("", "identity"):
        return content
    # gzip or zlib, by the header of the data. Anything else, such as brotli, was not asked for and is an error.
    decompressed = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress(content, longest + 1)
    return None if len(decompressed) > longest else decompressed


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for a server (HTTP_PROXY, NO_PROXY and so on).

    It is looked up once: aiohttp would do it for every request, at three times the cost of the request itself.
    """
    parts = urllib.parse.urlsplit(url)
    bypass = urllib.request.proxy_bypass(parts.netloc)
    return None if bypass else urllib.request.getproxies().get(parts.scheme)


def _message(content: bytes) -> str:
    """The message of an error response: OpenAI's error.message, otherwise the first 300 characters."""
    text = content.decode("utf-8", "replace")
    try:
        reply = json.loads(text)
    except (ValueError, RecursionError):
        return text[:300]
    match reply:
        case {"error": {"message": str(message)}}:
            return message[:300]
    return text[:300]


def _shorten(models: list[str]) -> str:
    """The names of the models a server says it serves, as a list in at most 300 characters."""
    text = str(models)
    return text if len(text) <= 300 else f"{text[:297]}..."


def _retry_after(value: str) -> float | None:
    """Seconds of a Retry-After header; None without one. Dates, which model servers do not send, count as none."""
    return float(value) if re.fullmatch(r"[0-9]{1,6}(?:\.[0-9]{1,6})?", value) else None
