"""Waiting for a server that is away, for one time in all, however many ask.

Everything that is asked while a server is away would find that out for itself, at the cost of all its attempts. Here
the first to find it starts a clock, and while it runs one asks at a time and the others wait for what becomes of it.
When the server answers, all go on; when the time is over, all are told so at once.
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
ASK_AGAIN_S = 60.0
"""Once the time is over, the server is asked again no more often than this."""


class ServerAway(RuntimeError):
    """The server has been away for as long as it is waited for; the message says since when, and the last failure."""


class Patience:
    """For use within one event loop. who: in messages. minutes: to wait; 0: not at all. at_once: requests in flight.
    pause_s: at most between two questions whether it is back. say: prints a line."""

    def __init__(self, who: str, minutes: float, at_once: int, pause_s: float, say: Callable[[str], None]) -> None:
        self._who, self._limit, self._pause, self._say = who, 60 * minutes, pause_s, say
        self._slots, self._one = asyncio.Semaphore(at_once), asyncio.Lock()
        self._since: float | None = None
        self._asked = self._answered = self._said = float("-inf")
        self._told = False
        self._why: RequestError | None = None

    async def ask(self, request: Callable[[], Awaitable[T]]) -> T:
        """What `request` gives, as soon as the server is there. Raises what it raises, and ServerAway."""
        failed_at = float("inf")
        while True:
            async with self._slots:  # here, so that none waits behind those whose server is away
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
        """One request; with a reply of whatever kind, the server is there."""
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
        """The time, at which a request found the server away; failed_at: when it did before. Raises the error when
        there is nothing to wait for: something is wrong with the request, or others have been answered in between."""
        if not error.away or not self._limit or failed_at < self._answered:
            raise error
        now, self._why = time.monotonic(), error
        self._since = now if self._since is None else self._since
        if now - self._said >= SAY_EVERY_S:
            self._said, self._told = now, True
            since = f"has been away for {_duration(now - self._since)}" if now > self._since else "is away"
            self._say(f"{self._who} {since} ({error}); it is waited for, up to {_duration(self._limit)}")
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
