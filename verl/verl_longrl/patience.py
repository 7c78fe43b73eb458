"""Wait for a server that is away, for one limit in total, however many requests there are.

Without this, every request that is made while a server is away would find that out by itself, at the cost of all its
attempts. Here the first request that finds it starts a clock. While the clock runs, one request at a time tries and the
others wait for its result. When the server answers, all continue; when the limit has passed, all fail at once.

    state     a request finds the server ...
    there     away: the clock starts, -> waiting
    waiting   answering (any reply): -> there, all requests continue
    waiting   away: pause and try again; when the limit has passed, all requests raise ServerAway (then one request
              every RETRY_EVERY_S still tries, so that the state can change)
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from verl_longrl.endpoints import RequestError

T = TypeVar("T")
REPORT_EVERY_S = 300.0
"""Seconds between two lines about a server that is away."""
RETRY_EVERY_S = 60.0
"""Seconds. Once the limit has passed, the server is tried again no more often than this."""


class ServerAway(RuntimeError):
    """The server has been away for as long as it is waited for; the message has the time and the last failure."""


class Patience:
    """Waits for a server that is away, for use within one event loop.

    Args:
        who: the server's name in messages, such as "the judge".
        minutes: how long to wait in total; 0 does not wait.
        concurrency: requests in flight.
        pause_s: the longest pause between two attempts to reach the server.
        report: prints a line.
    """

    def __init__(
        self, who: str, minutes: float, concurrency: int, pause_s: float, report: Callable[[str], None]
    ) -> None:
        self._who, self._limit, self._pause, self._report = who, 60 * minutes, pause_s, report
        self._slots, self._one_at_a_time = asyncio.Semaphore(concurrency), asyncio.Lock()
        self._away_since: float | None = None
        self._last_request_at = self._last_reply_at = self._last_report_at = float("-inf")
        self._reported = False
        self._last_error: RequestError | None = None

    async def ask(self, request: Callable[[], Awaitable[T]]) -> T:
        """The result of `request`, as soon as the server is there. Raises the errors of `request`, and ServerAway."""
        failed_at = float("inf")
        while True:
            # The slot is released before waiting, so that requests do not queue behind those that wait.
            async with self._slots:
                if self._away_since is None:
                    try:
                        return await self._send(request)
                    except RequestError as error:
                        failed_at = self._note_failure(error, failed_at)
            async with self._one_at_a_time:
                while self._away_since is not None:
                    await self._pause_or_give_up(time.monotonic() - self._away_since)
                    try:
                        return await self._send(request)
                    except RequestError as error:
                        failed_at = self._note_failure(error, failed_at)

    async def _send(self, request: Callable[[], Awaitable[T]]) -> T:
        """Send one request. Any kind of reply shows that the server is there."""
        self._last_request_at = time.monotonic()
        try:
            result = await request()
        except RequestError as error:
            if not error.away:
                self._note_reply()
            raise
        self._note_reply()
        return result

    def _note_failure(self, error: RequestError, failed_at: float) -> float:
        """Note that a request found the server away; returns the current time.

        failed_at: when the same request failed before. Raises the error when waiting cannot help: the request itself is
        wrong, or others have been answered since it failed.
        """
        if not error.away or not self._limit or failed_at < self._last_reply_at:
            raise error
        now, self._last_error = time.monotonic(), error
        self._away_since = now if self._away_since is None else self._away_since
        if now - self._last_report_at >= REPORT_EVERY_S:
            self._last_report_at, self._reported = now, True
            since = f"has been away for {_duration(now - self._away_since)}" if now > self._away_since else "is away"
            self._report(f"{self._who} {since} ({error}); waiting for it for up to {_duration(self._limit)}")
        return now

    def _note_reply(self) -> None:
        self._last_reply_at = time.monotonic()
        if self._away_since is not None and self._reported:
            self._report(f"{self._who} answers again after {_duration(self._last_reply_at - self._away_since)}")
        self._away_since, self._reported = None, False

    async def _pause_or_give_up(self, away: float) -> None:
        remaining = self._limit - away
        if remaining <= 0 and time.monotonic() - self._last_request_at < RETRY_EVERY_S:
            raise ServerAway(f"{self._who} has been away for {_duration(away)}: {self._last_error}")
        await asyncio.sleep(min(random.uniform(0.5, 1.0) * self._pause, max(remaining, 0.0)))


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"
