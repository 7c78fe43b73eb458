"""The stretch of a document that a prompt shows: all of it, or as many whole passages as the budget has room for."""

from __future__ import annotations

import itertools
import random
from bisect import bisect_right
from collections.abc import Sequence


class Windows:
    """tokens: of each passage with its heading, in order."""

    def __init__(self, tokens: Sequence[int]):
        self._sums = list(itertools.accumulate(tokens, initial=0))

    def tokens(self, start: int, end: int) -> int:
        """Of the passages [start, end)."""
        return self._sums[end] - self._sums[start]

    def draw(self, room: int, draw: random.Random) -> tuple[int, int]:
        """Passages [start, end) of at most `room` tokens: all if they fit, else as many as fit from a random one on, of
        those from which the room can be filled. Empty where no passage fits."""
        place, room = draw.random(), max(room, 0)
        passages = len(self._sums) - 1
        latest = 0  # the first passage from which on the rest of the document fits
        while self._sums[-1] - self._sums[latest] > room:
            latest += 1
        start = min(int(place * (latest + 1)), latest)
        end = bisect_right(self._sums, self._sums[start] + room) - 1
        return start, min(end, passages)
