"""Choose the part of a document that a prompt shows: all of it, or as many whole passages as the budget allows."""

from __future__ import annotations

import itertools
import random
from bisect import bisect_right
from collections.abc import Sequence


class Windows:
    """Ranges of consecutive passages. tokens: those of each passage with its heading, in order."""

    def __init__(self, tokens: Sequence[int]):
        self._sums = list(itertools.accumulate(tokens, initial=0))

    def tokens(self, start: int, end: int) -> int:
        """Tokens of the passages [start, end)."""
        return self._sums[end] - self._sums[start]

    def draw(self, room: int, draw: random.Random) -> tuple[int, int]:
        """A range [start, end) of passages with at most `room` tokens: all passages if they fit, or else as many as
        fit, beginning with a random one. Empty if no passage fits."""
        place, room = draw.random(), max(room, 0)
        passages = len(self._sums) - 1
        # The first passage with which the rest of the document fits; a window that begins later would waste room.
        latest = 0
        while self._sums[-1] - self._sums[latest] > room:
            latest += 1
        start = min(int(place * (latest + 1)), latest)
        end = bisect_right(self._sums, self._sums[start] + room) - 1
        return start, min(end, passages)
