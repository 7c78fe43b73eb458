"""Wait for a server that is away, for one limit in total, however many requests there are.

Without this, every request that is made while a server is away would find that out by itself, at the cost of all its
attempts. Here the first request that finds it starts a clock. While the clock runs, one request at a time tries and the
others wait for its result. When the server answers, all continue; when the limit has passed, all fail at once.

    server answers --- a request finds it away ---> waiting: one request at a time tries
          ^                                             |                    |
          +------------------ any reply ----------------+       limit passed |
          +--- a reply to the try, at most every 60 s --- ServerAway for all <+
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from verl_longrl.endpoints import RequestError

T = TypeVar("T")
SAY_EVERY_S = 300.0
"""Between two lines about a server that is away."""
ASK_AGAIN_S = 60.0
"""Once the limit has passed, the server is tried again no more often than this."""


class ServerAway(RuntimeError):
    """The server has been away for as long as it is waited for; the message has the time and the last failure."""


class Patience:
    """Waits for a server that is away, for use within one event loop.

    Args:
        who: the server's name in messages, such as "the judge".
        minutes: how long to wait in total; 0 does not wait.
        at_once: requests in flight.
        pause_s: the longest pause between two attempts to reach the server.
        say: prints a line.
    """

    def __init__(self, who: str, minutes: float, at_once: int, pause_s: float, say: Callable[[str], None]) -> None:
        self._who, self._limit, self._pause, self._say = who, 60 * minutes, pause_s, say
        self._slots, self._one = asyncio.Semaphore(at_once), asyncio.Lock()
        self._since: float | None = None
        self._asked = self._answered = self._said = float("-inf")
        self._told = False
        self._why: RequestError | None = None

    async def ask(self, request: Callable[[], Awaitable[T]]) -> T:
        """The result of `request`, as soon as the server is there. Raises the errors of `request`, and ServerAway."""
        failed_at = float("inf")
        while True:
            # The slot is released before waiting, so that requests do not queue behind those that wait.
            async with self._slots:
                if self._since is None:
                    try:
                        return await self._answer(request)
                    except RequestError as error:
                        failed_at = self._wait_for_it(error, failed_at)
            async with self._one:
                while self._since is not None:
                    await self._pause_or_give_up(time.monotonic() - self._since)
                    try:
                        return await self._answer(request)
                    except RequestError as error:
                        failed_at = self._wait_for_it(error, failed_at)

    async def _answer(self, request: Callable[[], Awaitable[T]]) -> T:
        """Send one request. Any kind of reply shows that the server is there."""
        self._asked = time.monotonic()
        try:
            result = await request()
        except RequestError as error:
            if not error.away:
                self._is_there()
            raise
        self._is_there()
        return result

    def _wait_for_it(self, error: RequestError, failed_at: float) -> float:
        """Note that a request found the server away; returns the current time.

        failed_at: when the same request failed before. Raises the error when waiting cannot help: the request itself is
        wrong, or others have been answered since it failed.
        """
        if not error.away or not self._limit or failed_at < self._answered:
            raise error
        now, self._why = time.monotonic(), error
        self._since = now if self._since is None else self._since
        if now - self._said >= SAY_EVERY_S:
            self._said, self._told = now, True
            since = f"has been away for {_duration(now - self._since)}" if now > self._since else "is away"
            self._say(f"{self._who} {since} ({error}); waiting for it for up to {_duration(self._limit)}")
        return now

    def _is_there(self) -> None:
        self._answered = time.monotonic()
        if self._since is not None and self._told:
            self._say(f"{self._who} answers again after {_duration(self._answered - self._since)}")
        self._since, self._told = None, False

    async def _pause_or_give_up(self, away: float) -> None:
        left = self._limit - away
        if left <= 0 and time.monotonic() - self._asked < ASK_AGAIN_S:
            raise ServerAway(f"{self._who} has been away for {_duration(away)}: {self._why}")
        await asyncio.sleep(min(random.uniform(0.5, 1.0) * self._pause, max(left, 0.0)))


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"
